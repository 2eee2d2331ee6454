"""Changes to images that exist, and what mounts them for that: copy, import, export, expand, mount, overlays."""
