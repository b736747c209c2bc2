"""A step that belongs to no pipeline: tests add it to the table and find it in everything made from the table."""
