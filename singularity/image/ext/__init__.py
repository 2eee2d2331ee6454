"""ext2, ext3 and ext4 file systems in files: read and written without mounting them."""
