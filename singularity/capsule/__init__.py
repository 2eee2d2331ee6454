"""What a run read and wrote outside its image, written down, compared, and handed on."""
