"""python submitit_jobs.py 1 train my_recipe.yaml --out runs/big"""

import os
import subprocess
import sys

import submitit


class Paradise(submitit.helpers.Checkpointable):
    """A command that saves its state before submitit puts its job back into the queue."""

    process: "subprocess.Popen[bytes] | None" = None

    def __call__(self, *words: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "paradise_cli", *words])
        # `Popen.wait` holds a lock, and `checkpoint`, which interrupts it, would wait for that.
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        if code := self.process.wait():
            raise RuntimeError(f"paradise ended with {code}")

    def checkpoint(self, *words: str) -> submitit.helpers.DelayedSubmission:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        return submitit.helpers.DelayedSubmission(Paradise(), *words)


if __name__ == "__main__":
    executor = submitit.AutoExecutor(folder="logs/%j", slurm_max_num_timeout=100)
    executor.update_parameters(timeout_min=240, gpus_per_node=1, slurm_signal_delay_s=60)
    with executor.batch():
        jobs = [executor.submit(Paradise(), *sys.argv[2:]) for _ in range(int(sys.argv[1]))]
    print(*(job.job_id for job in jobs))
