"""`python -m cutaway`: the command line, where the installed command is not on the path."""

try:
    from cutaway.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

if __name__ == "__main__":
    main()
