"""What a campaign says at its end."""

from dsa110_contimg.chaos.checker import Verdict
from dsa110_contimg.chaos.history import Row

_SHOWN = 5


def as_text(figures: Row, verdicts: list[Verdict]) -> str:
    """Return the report for people."""
    lines = [f"{name.replace('_', ' '):>26}  {_value(value)}" for name, value in figures.items()]
    lines.append("")
    for verdict in verdicts:
        state = "VIOLATED" if verdict.violations else "held" if verdict.judged else "not put to the test"
        lines.append(f"{verdict.number:>3}  {verdict.promise:<48} {state} ({verdict.judged} judged)")
        lines += [f"       {violation.what}" for violation in verdict.violations[:_SHOWN]]
        if len(verdict.violations) > _SHOWN:
            lines.append(f"       and {len(verdict.violations) - _SHOWN} more")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in sorted(value.items())) or "none"
    return "-" if value is None else str(value)


def as_json(figures: Row, verdicts: list[Verdict]) -> Row:
    """Return the report for programs."""
    return {
        "figures": figures,
        "invariants": [
            {
                "number": verdict.number,
                "promise": verdict.promise,
                "judged": verdict.judged,
                "violations": [violation.what for violation in verdict.violations],
            }
            for verdict in verdicts
        ],
        "violations": sum(len(verdict.violations) for verdict in verdicts),
    }
