"""``python -m node.cli``: the command without its installed name."""

from node.cli import main

main()
