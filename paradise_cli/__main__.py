"""`paradise` and `python -m paradise_cli`."""


def main() -> None:
    """Run the command line."""
    from paradise_cli.core.parent import end_with_parent

    # Before the command line is loaded, which takes a while.
    end_with_parent()

    from paradise_cli.cli import app

    app(prog_name="paradise")


if __name__ == "__main__":
    main()
