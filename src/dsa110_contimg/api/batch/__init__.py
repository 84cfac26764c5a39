"""Reports and pictures made of finished products, one item at a time."""
