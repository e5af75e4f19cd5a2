"""Private: files, seeds, devices, and how a command ends."""
