"""Folders of pictures: which there are, what each shows, and all of them as IDX files."""
