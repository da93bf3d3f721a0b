"""`paradise selftest`."""

from dataclasses import asdict

from paradise_cli.cli.options import DeviceOption, JsonOption
from paradise_cli.cli.output import print_json, print_table
from paradise_cli.core.units import counted


def selftest(device: DeviceOption = "auto", as_json: JsonOption = False) -> None:
    """Check the identities of the method on this machine; exit code 1 where one does not hold.

    \b
    paradise selftest
    paradise selftest --device cuda --json
    """
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.core.errors import ParadiseError
    from paradise_cli.core.machine import choose_device
    from paradise_cli.runs.selftest import CHECKS, run_checks

    # All of them, also after one that fails: which identities hold says where to look.
    done = []
    with progress_bar(len(CHECKS), "checking") as advance:
        for check in run_checks(choose_device(device)):
            done.append(check)
            advance(1)
    if as_json:
        print_json([asdict(check) | {"passed": check.passed} for check in done])
    else:
        rows = [
            [
                c.name,
                f"{c.measured:.1e}",
                f"{c.bound:.0e}",
                f"{c.seconds:.1f}",
                "pass" if c.passed else "FAIL",
            ]
            for c in done
        ]
        print_table("selftest", ["identity", "off by", "allowed", "seconds", ""], rows)
    # The exit code is for scripts, which read no table.
    failed = [check.name for check in done if not check.passed]
    if failed:
        raise ParadiseError(
            f"{len(failed)} of {counted(len(done), 'check')} failed: {'; '.join(failed)}"
        )
