"""Files, seeds, devices and how commands end."""
