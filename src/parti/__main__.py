"""`python -m parti`, where the command `parti` is not on the path."""

from parti.app.cli import main

main()
