"""The protocols by name: marble's own, and presets of other people's, made of what their sources state.

A preset expresses its source's values by settings; `marble info protocol NAME` prints each of them with its source. Where a
source states nothing, the value is that of ``marble``. Whatever a preset does, test chooses nothing.
"""

from __future__ import annotations

from marble.probe.presets.audio import HEAR, JUKEMIR, SUPERB
from marble.probe.presets.marble import MARBLE, MARBLE_V1, MARBLE_V2
from marble.probe.presets.papers import BRANCHFORMER, LAYERWISE, MUQ, OMAR
from marble.probe.protocol import Protocol

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (MARBLE, MARBLE_V1, MARBLE_V2, MUQ, LAYERWISE, OMAR, BRANCHFORMER, JUKEMIR, HEAR, SUPERB)
}


def page() -> str:
    """Return the documentation of all protocols in Markdown."""
    lines = [
        "# Protocols",
        "",
        "What the sources of each protocol state and how marble expresses it, as `marble info protocol NAME` prints it.",
        "Settings are those of `--set`. `python -m marble.probe.presets > docs/protocols.md` writes this page.",
    ]
    for protocol in PROTOCOLS.values():
        lines += ["", f"## {protocol.name}", "", protocol.description, ""]
        lines += ["| field | value | source | expressed |", "|---|---|---|---|"]
        for statement in protocol.stated:
            cells = [cell.replace("|", "\\|") for cell in statement.row().values()]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
