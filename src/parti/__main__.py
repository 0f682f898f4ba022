"""`python -m parti`, where the command `parti` is not on the path."""

from parti.app.cli import main

if __name__ == "__main__":
    main()
