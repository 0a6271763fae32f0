"""Print the documentation of all protocols: ``python -m marble.probe.presets > docs/protocols.md``."""

from marble.probe.presets import page

print(page(), end="")
