"""What lies in a tree: where it is, which files are models, which belong together."""
