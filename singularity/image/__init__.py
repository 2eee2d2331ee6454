"""Image formats: recognising, reading and writing them. The C half has its own readers, in `launcher/image/`."""
