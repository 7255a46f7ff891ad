#!/usr/bin/env python3
"""Makes the topics that the examples use, with the partitions of the contract, where no engine has made them. For tests."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

from confluent_kafka import KafkaError, KafkaException  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from connection import Connection, add_arguments  # noqa: E402

# As `Topic::default_partitions` has them.
PARTITIONS = {"policy": 1, "jobs": 4, "usage": 4, "decisions": 4}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    connection = Connection(parser.parse_args())
    admin = AdminClient(connection.kafka)
    keep = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
    topics = [NewTopic(connection.topic(name), n, config=keep) for name, n in PARTITIONS.items()]
    for topic, made in admin.create_topics(topics).items():
        try:
            made.result(30)
            print(f"made {topic}")
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            print(f"{topic} was there")


if __name__ == "__main__":
    main()
