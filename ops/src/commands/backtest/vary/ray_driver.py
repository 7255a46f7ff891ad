"""Runs of solyx backtest as tasks of a Ray cluster.

Reads one line of JSON: {"address", "solyx", "runs": [{"key", "base", "variation"}]}. Writes a line for each run as it ends:
{"key", "said"} or {"key", "error"}. A variation is TOML, or null for the base as it was.
"""

import json
import sys

import ray


@ray.remote(num_cpus=1, max_retries=2)
def run(solyx, base, variation):
    import subprocess
    import tempfile

    command = [solyx, "--json", "backtest", "--base", base, "--one"]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        if variation is not None:
            file.write(variation)
            file.flush()
            command += ["--vary", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return {"error": done.stderr.strip() or f"solyx ended with {done.returncode}"}
    return {"said": json.loads(done.stdout)}


def main():
    work = json.loads(sys.stdin.readline())
    address = None if work["address"] == "local" else work["address"]
    ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    waiting = {
        run.remote(work["solyx"], item["base"], item["variation"]): item["key"] for item in work["runs"]
    }
    while waiting:
        ended, _ = ray.wait(list(waiting), num_returns=1)
        for task in ended:
            key = waiting.pop(task)
            try:
                answer = ray.get(task)
            except ray.exceptions.RayError as error:
                answer = {"error": str(error).strip().splitlines()[-1]}
            print(json.dumps({"key": key, **answer}), flush=True)


main()
