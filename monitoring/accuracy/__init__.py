"""How accurate a version is now: from audited labels with an interval, or without labels with the method's name."""
