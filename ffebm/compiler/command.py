"""Options of a plan as words of the command that asks for them."""

from collections.abc import Iterator, Mapping

from msgspec import structs

from ffebm.plan.schema import Options, Settle

REPEATED = {
    "digital": "--digital",
    "trainable": "--trainable",
    "passes": "--pass",
    "activations": "--activation",
}
"""Options that can be given often, by their names in a plan."""


def option_words(options: Options, settle: Settle) -> list[str]:
    """What `ffebm compile` is told to compile with such options; what is as usual is left out."""
    chosen = {**structs.asdict(options), **structs.asdict(settle)}
    words = list(_words(chosen, {**structs.asdict(Options()), **structs.asdict(Settle())}))
    words += [word for name, size in options.dims.items() for word in ("--dim", f"{name}={size}")]
    return words + [
        word for name, option in REPEATED.items() for value in chosen[name] for word in (option, value)
    ]


def _words(chosen: Mapping[str, object], usual: Mapping[str, object]) -> Iterator[str]:
    for name, value in chosen.items():
        if name == "dims" or name in REPEATED or value == usual[name]:
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
