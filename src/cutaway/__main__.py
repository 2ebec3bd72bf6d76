"""`python -m cutaway`: the command line, where the installed command is not on the path."""

from cutaway.cli import main

if __name__ == "__main__":
    main()
