"""Class lists of known data sets."""
