"""`paradise` and `python -m paradise_cli`."""


def main() -> None:
    """Run the command line."""
    from paradise_cli.cli import app

    app(prog_name="paradise")


if __name__ == "__main__":
    main()
