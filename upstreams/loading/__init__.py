"""Where weights come from and how they get into an upstream."""
