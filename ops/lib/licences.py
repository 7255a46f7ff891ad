"""Checks the licence expression of every dependency against the list in deny.toml. Reads `cargo metadata`, needs no network."""

import json
import re
import subprocess
import sys


def allowed_of(path):
    """The licences of `[licenses] allow` and the exceptions by crate; a subset of TOML is enough for our own file."""
    text = open(path, encoding="utf-8").read()
    section = text.split("[licenses]", 1)[1].split("\n[", 1)[0]
    allow = re.search(r"^allow = \[(.*?)\]", section, re.S | re.M).group(1)
    exceptions = {}
    for crate, licences in re.findall(r'crate = "([^"]+)", allow = \[(.*?)\]', section):
        exceptions[crate] = set(re.findall(r'"([^"]+)"', licences))
    return set(re.findall(r'"([^"]+)"', allow)), exceptions


def holds(expression, allowed):
    """Whether an SPDX expression can be met by allowed licences: OR needs one side, AND both, WITH is part of a name."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def either():
        nonlocal position
        good = both()
        while peek() == "OR":
            position += 1
            good = both() or good
        return good

    def both():
        nonlocal position
        good = one()
        while peek() == "AND":
            position += 1
            good = one() and good
        return good

    def one():
        nonlocal position
        token = peek()
        position += 1
        if token == "(":
            good = either()
            position += 1
            return good
        if peek() == "WITH":
            token = f"{token} WITH {tokens[position + 1]}"
            position += 2
        return token in allowed

    return either() and position == len(tokens)


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    allowed, exceptions = allowed_of(sys.argv[1])
    host = next(line.split()[1] for line in run("rustc", "-vV").splitlines() if line.startswith("host: "))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    metadata = json.loads(run(*command))
    members = set(metadata["workspace_members"])
    bad = []
    packages = [package for package in metadata["packages"] if package["id"] not in members]
    for package in packages:
        expression = package.get("license")
        name = f"{package['name']} {package['version']}"
        if not expression:
            bad.append(f"{name}: names no licence")
        elif not holds(expression, allowed | exceptions.get(package["name"], set())):
            bad.append(f"{name}: {expression}")
        source = package.get("source") or ""
        if source != "registry+https://github.com/rust-lang/crates.io-index":
            bad.append(f"{name}: comes from {source or 'a path outside the workspace'}, expected crates.io")
    for line in bad:
        print(line, file=sys.stderr)
    print(f"   {len(packages)} dependencies, {len(bad)} that break the policy", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
