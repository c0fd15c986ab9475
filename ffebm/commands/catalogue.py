"""The commands by name, each with the first line of its documentation, without importing any."""

COMMANDS = {
    "compile": "Compile an ONNX model into a plan.",
    "explain": "Say for every node where it runs and why, and what kept work off the tiles.",
    "show": "Show a plan: its parts, tiles, time and costs; or write it for other viewers.",
    "report": "Write one page that shows a plan, or two plans of one model side by side.",
    "run": "Run a plan on the samples of a file.",
    "recipe": "List experiments, or write one as a plan and the settings that train it.",
    "train": "Train a plan; every epoch leaves a checkpoint, the trained model lies beside it as ONNX.",
    "gradcheck": "Hold the gradients of a plan against the exact adjoint, weight by weight.",
    "sensitivity": (
        "Find what noise and converters do to each block, and the partition that keeps an accuracy."
    ),
    "explore": "Price a model for many machines and options, and show which points no other one beats.",
    "export": "Write a plan as other simulators and tools read it, and say what they cannot express.",
    "passes": (
        "Run the compiler's passes on a model or on the text of a graph, and print the graph between them."
    ),
}
"""In the order in which `ffebm --help` lists them; a command is the function of its name."""
