"""What clips can be read from: folders, tables, published data sets, streams."""
