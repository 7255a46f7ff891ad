"""What no schema says of ops/deploy: files that are named exist, images are pinned, connection files have what solyx needs.

usage: deploy.py DIR      needs PyYAML. Prints a line per finding; exit code 1 when there is one.
"""

import pathlib
import re
import sys
import tomllib

import yaml

findings = []
ROOT = pathlib.Path(sys.argv[1])
BASE = ROOT / "kubernetes" / "base"


def found(path, what):
    findings.append(f"{path.relative_to(ROOT)}: {what}")


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pinned(path, image):
    name, _, tag = image.rpartition(":")
    if "@sha256:" not in image and (not name or "/" in tag or not re.search(r"\d", tag)):
        found(path, f"image {image} has no version")


def connection(path):
    table = tomllib.loads(path.read_text())
    for key, kind in [("bootstrap", str), ("prefix", str), ("replication", int), ("min_insync_replicas", int)]:
        if not isinstance(table.get(key), kind):
            found(path, f"{key} is missing or not {kind.__name__}")
    if table.get("min_insync_replicas", 0) >= table.get("replication", 0) > 1:
        found(path, "min_insync_replicas leaves no broker that may be down")
    security = table.get("security")
    if security is not None:
        if security.get("protocol") not in ("SASL_SSL", "SSL", "SASL_PLAINTEXT", "PLAINTEXT"):
            found(path, f"security.protocol {security.get('protocol')} is none of Kafka's")
        if "password" in security:
            found(path, "a password stands in the file itself")
    return table


def compose():
    path = ROOT / "compose.yaml"
    (table,) = documents(path)
    for name, service in table["services"].items():
        pinned(path, service["image"])
        for volume in service.get("volumes", []):
            if volume.split(":")[0] not in table["volumes"]:
                found(path, f"{name}: volume {volume} is not declared")
        for other in service.get("depends_on", {}):
            if other not in table["services"]:
                found(path, f"{name}: depends on {other}, which is not there")
    for config in table["configs"].values():
        brokers = connection(path.parent / config["file"])["bootstrap"]
        for broker in brokers.split(","):
            if broker.split(":")[0] not in table["services"]:
                found(path, f"no broker {broker}, which {config['file']} names")


def kubernetes():
    path = BASE / "kustomization.yaml"
    (table,) = documents(path)
    listed = set(table["resources"])
    for name in listed | {entry.partition("=")[2] for made in table["configMapGenerator"] for entry in made["files"]}:
        if not (BASE / name).is_file():
            found(path, f"{name} is not there")
    for file in BASE.glob("*.yaml"):
        if file != path and file.name not in listed:
            found(path, f"{file.name} is not listed")
    for image in table["images"]:
        pinned(path, f"{image['newName']}:{image['newTag']}")
    renamed = {image["name"] for image in table["images"]}
    maps = {made["name"] for made in table["configMapGenerator"]}
    for file in sorted(BASE.glob("*.yaml")):
        for document in documents(file):
            workload(file, document, renamed, maps)
    for file in (BASE / "connections").glob("*.toml"):
        connection(file)


def workload(file, document, renamed, maps):
    pod = document.get("spec", {}).get("template", {}).get("spec")
    if pod is None:
        return
    name = document["metadata"]["name"]
    labels = document["spec"]["template"]["metadata"]["labels"]
    wanted = document["spec"].get("selector", {}).get("matchLabels", labels)
    if not wanted.items() <= labels.items():
        found(file, f"{name}: the selector does not select its own pods")
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        found(file, f"{name}: may run as root")
    mounted = {volume["name"] for volume in pod.get("volumes", [])}
    mounted |= {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
    for volume in pod.get("volumes", []):
        if "configMap" in volume and volume["configMap"]["name"] not in maps:
            found(file, f"{name}: no ConfigMap {volume['configMap']['name']}")
    for container in pod["containers"]:
        if container["image"] not in renamed:
            pinned(file, container["image"])
        if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            found(file, f"{name}: its root file system can be written")
        if not {"requests", "limits"} <= container.get("resources", {}).keys():
            found(file, f"{name}: no resources")
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in mounted:
                found(file, f"{name}: mounts {mount['name']}, which is not there")


compose()
kubernetes()
print(*findings, sep="\n" if findings else "", end="\n" if findings else "")
sys.exit(1 if findings else 0)
