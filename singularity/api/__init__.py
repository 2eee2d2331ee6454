"""What programs import, as `singularity` and `singularity.aio`; the names that are promised are `singularity.__all__`.

Launches start the front door. What changes the process that does it (builds, pulls, pushes) is done in a child, by the
library. Each such thing is told before it is done (`calls`), so that those who wait and those who await share all.
"""
