"""`python -m mupjax.cli`."""

from mupjax.cli import main

if __name__ == "__main__":
    main()
