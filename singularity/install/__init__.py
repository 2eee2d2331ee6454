"""Programs of images as commands, as modules, as kernels of Jupyter; and all of it taken away again."""
