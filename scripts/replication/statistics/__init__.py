"""What is computed from the maps of untrained networks: shape, moments, ratios of sizes, slopes."""
