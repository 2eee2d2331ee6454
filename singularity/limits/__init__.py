"""Limits of a launch: what they mean to the kernel, and the control group in which they hold."""
