"""Where Kafka and the schema registry are: from the command line, or from a kafka.toml as `ops/kafka` writes it."""

import argparse
import os
import pathlib
import sys
import tomllib
import uuid


def fail(what, detail, hint):
    """Ends the program with an error in three parts; exit code 2 is wrong use."""
    print(f"error: {what}\n  detail: {detail}\n  hint: {hint}", file=sys.stderr)
    sys.exit(2)


def add_arguments(parser: argparse.ArgumentParser):
    """The arguments that all examples share."""
    parser.add_argument("--config", type=pathlib.Path, metavar="FILE", help="kafka.toml: bootstrap, prefix, [security], [registry]")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="brokers; goes before --config")
    parser.add_argument("--registry", metavar="URL", help="address of the registry's Confluent API; goes before --config")
    parser.add_argument("--prefix", metavar="NAME", help="what the cell's topics begin with; solyx when nothing says otherwise")


class Connection:
    """Settings for `confluent_kafka` clients and for its `SchemaRegistryClient`."""

    def __init__(self, arguments):
        file, self.directory = {}, pathlib.Path()
        if arguments.config:
            try:
                file = tomllib.loads(arguments.config.read_text())
            except (OSError, tomllib.TOMLDecodeError) as error:
                fail(f"cannot read {arguments.config}", error, "check the path and the file")
            self.directory = arguments.config.parent
        registry = dict(file.get("registry", {}))
        if arguments.registry:
            registry["url"] = arguments.registry
        bootstrap = arguments.bootstrap or file.get("bootstrap")
        for name, value in (("bootstrap", bootstrap), ("registry", registry.get("url"))):
            if not value:
                fail(f"--{name} is missing", "neither the command line nor --config says it", "see --help")
        self.prefix = arguments.prefix or file.get("prefix", "solyx")
        self.kafka = {"bootstrap.servers": bootstrap, **self._security(file.get("security", {}))}
        self.registry = self._registry(registry)

    def topic(self, name):
        return f"{self.prefix}.{name}"

    def group(self):
        """A consumer group for one run, below what the cell's rights give to this principal. Nothing is committed in it."""
        return f"{self.prefix}.{self.kafka.get('sasl.username', 'example')}.{uuid.uuid4()}"

    def _path(self, path):
        return str(self.directory / path)

    def _secret(self, table, name):
        """A secret is in a file or in the environment, never in the table itself."""
        try:
            if f"{name}_file" in table:
                return pathlib.Path(self._path(table[f"{name}_file"])).read_text().rstrip("\r\n")
            if f"{name}_env" in table:
                return os.environ[table[f"{name}_env"]]
        except (OSError, KeyError) as error:
            fail(f"the {name} is not there", error, "check the configuration and what it points to")
        return None

    def _security(self, table):
        settings = {}
        names = {
            "protocol": "security.protocol",
            "mechanism": "sasl.mechanism",
            "username": "sasl.username",
        }
        paths = {
            "ca_file": "ssl.ca.location",
            "certificate_file": "ssl.certificate.location",
            "key_file": "ssl.key.location",
        }
        settings.update({theirs: table[ours] for ours, theirs in names.items() if ours in table})
        settings.update({theirs: self._path(table[ours]) for ours, theirs in paths.items() if ours in table})
        password = self._secret(table, "password")
        if password is not None:
            settings["sasl.password"] = password
        return settings

    def _registry(self, table):
        settings = {"url": table["url"]}
        password, token = self._secret(table, "password"), self._secret(table, "token")
        if table.get("username"):
            settings["basic.auth.user.info"] = f"{table['username']}:{password or ''}"
        if token is not None:
            settings["bearer.auth.credentials.source"] = "STATIC_TOKEN"
            settings["bearer.auth.token"] = token
            # The client wants both; a registry that is no Confluent Cloud reads neither.
            settings["bearer.auth.logical.cluster"] = settings["bearer.auth.identity.pool.id"] = ""
        if "ca_file" in table:
            settings["ssl.ca.location"] = self._path(table["ca_file"])
        return settings
