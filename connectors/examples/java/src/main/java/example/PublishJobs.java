package example;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Publishes jobs and prints what is decided of each, with Kafka's own client and plain Avro. The schema of solyx.jobs.JobRequested comes
 * from the registry. Exit code 1: some job got no decision in time.
 */
public final class PublishJobs {
  private static final String RECORD = "solyx.jobs.JobRequested";
  private static final String SOURCE = "example-java";
  private static final Set<String> FINAL = Set.of("JobPlaced", "JobRejected", "JobCancelled");
  private static final String USAGE =
      """
      usage: java -jar publish-jobs.jar --bootstrap HOST:PORT --registry URL [--prefix NAME] [--count N] [--tenant NAME]
                 [--class NAME] [--gpus N] [--work SECONDS] [--timeout SECONDS] [--properties FILE]
      --properties names a file with settings of Kafka's clients, as for TLS and SASL.
      SOLYX_REGISTRY_AUTHORIZATION in the environment is the registry's header, as in "Bearer ..." or "Basic ...".""";

  private final Map<String, String> arguments;
  private final Registry registry;
  private final Properties kafka = new Properties();

  private PublishJobs(Map<String, String> arguments) throws IOException {
    this.arguments = arguments;
    this.registry = new Registry(arguments.get("registry"), System.getenv("SOLYX_REGISTRY_AUTHORIZATION"));
    if (arguments.containsKey("properties")) {
      try (var file = Files.newBufferedReader(Path.of(arguments.get("properties")))) {
        kafka.load(file);
      }
    }
    kafka.put("bootstrap.servers", arguments.get("bootstrap"));
  }

  public static void main(String[] words) throws Exception {
    System.exit(new PublishJobs(parsed(words)).run());
  }

  private static Map<String, String> parsed(String[] words) {
    var found =
        new HashMap<>(
            Map.of(
                "prefix", "solyx", "count", "3", "tenant", "11cb48", "class", "standard", "gpus", "1", "work", "3600", "timeout", "60"));
    for (int i = 0; i < words.length; i += 2) {
      if (!words[i].startsWith("--") || words[i].equals("--help") || i + 1 == words.length) {
        stop(words[i].equals("--help") ? 0 : 2);
      }
      found.put(words[i].substring(2), words[i + 1]);
    }
    if (!found.containsKey("bootstrap") || !found.containsKey("registry")) {
      stop(2);
    }
    return found;
  }

  private static void stop(int code) {
    (code == 0 ? System.out : System.err).println(USAGE);
    System.exit(code);
  }

  private String topic(String name) {
    return arguments.get("prefix") + "." + name;
  }

  private int run() throws Exception {
    String run = UUID.randomUUID().toString().substring(0, 8);
    List<String> jobs = new ArrayList<>();
    for (int n = 0; n < Integer.parseInt(arguments.get("count")); n++) {
      jobs.add(SOURCE + "-" + run + "-" + n);
    }
    try (var consumer = decisionsFromNow()) {
      publish(jobs);
      System.out.println(jobs.size() + " jobs published to " + topic("jobs"));
      Set<String> left = printDecisions(consumer, jobs);
      left.forEach(job -> System.out.printf("%-40s no final decision in %s s%n", job, arguments.get("timeout")));
      return left.isEmpty() ? 0 : 1;
    }
  }

  private void publish(List<String> jobs) throws Exception {
    Registry.Registered requested = registry.latest(RECORD);
    kafka.put("enable.idempotence", "true");
    // Kafka's default partitioner hashes the key with murmur2, which is part of the contract.
    try (var producer = new KafkaProducer<>(kafka, new StringSerializer(), new ByteArraySerializer())) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (String job : jobs) {
        Instant now = Instant.now().truncatedTo(ChronoUnit.MICROS);
        GenericRecord event = jobRequest(requested.schema(), job, now);
        var record = new ProducerRecord<>(topic("jobs"), job, registry.framed(requested, event));
        cloudEventHeaders(event.get("event_id").toString(), now)
            .forEach((name, text) -> record.headers().add(name, text.getBytes(StandardCharsets.UTF_8)));
        sent.add(producer.send(record));
      }
      for (Future<RecordMetadata> one : sent) {
        one.get();
      }
    }
  }

  /** A JobRequested; what is left out has the default that the schema gives it. */
  private GenericRecord jobRequest(Schema schema, String job, Instant now) {
    Schema gangSchema = schema.getField("gang").schema();
    GenericRecord gang =
        new GenericRecordBuilder(gangSchema)
            .set("replicas_min", 1L)
            .set("replicas_max", 1L)
            .set("gpus", Long.parseLong(arguments.get("gpus")))
            .set("gpu_milli_each", 1000L)
            .set("cpu_milli", 8000L)
            .set("memory_mib", 65536L)
            .set("exclusive_node", false)
            .build();
    return new GenericRecordBuilder(schema)
        .set("event_id", job + "/request")
        .set("source", SOURCE)
        .set("occurred_us", ChronoUnit.MICROS.between(Instant.EPOCH, now))
        .set("job", job)
        .set("tenant", arguments.get("tenant"))
        .set("kind", new GenericData.EnumSymbol(schema.getField("kind").schema(), "TRAINING"))
        .set("gang", gang)
        .set("expected_work_us", Long.parseLong(arguments.get("work")) * 1_000_000L)
        .set("class", arguments.get("class"))
        .set("preemptible", true)
        .set("attestation_required", false)
        .set("hold", false)
        .build();
  }

  /** CloudEvents 1.0 in Kafka's binary mode; they say what the body says. */
  private static Map<String, String> cloudEventHeaders(String id, Instant time) {
    return Map.of(
        "ce_specversion", "1.0",
        "ce_id", id,
        "ce_source", SOURCE,
        "ce_type", RECORD,
        "ce_time", time.toString(),
        "content-type", "application/avro");
  }

  /** A consumer of all decisions that come from now on, and only of transactions that were committed. */
  private KafkaConsumer<String, byte[]> decisionsFromNow() {
    var settings = new Properties();
    settings.putAll(kafka);
    settings.put("isolation.level", "read_committed");
    settings.put("enable.auto.commit", "false");
    var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
    List<TopicPartition> partitions =
        consumer.partitionsFor(topic("decisions")).stream().map(p -> new TopicPartition(p.topic(), p.partition())).toList();
    consumer.assign(partitions);
    consumer.seekToEnd(partitions);
    // Seeking is lazy: asking for the positions makes it happen before anything is published.
    partitions.forEach(consumer::position);
    return consumer;
  }

  /** Prints decisions on these jobs until each has a final one; the jobs that have none by then. */
  private Set<String> printDecisions(KafkaConsumer<String, byte[]> consumer, List<String> jobs) throws Exception {
    Set<String> waiting = new TreeSet<>(jobs);
    long deadline = System.nanoTime() + Duration.ofSeconds(Long.parseLong(arguments.get("timeout"))).toNanos();
    while (!waiting.isEmpty() && System.nanoTime() < deadline) {
      for (var record : consumer.poll(Duration.ofMillis(500))) {
        // The key of a decision on a job is the job; other records need not be decoded.
        if (!jobs.contains(record.key())) {
          continue;
        }
        Header type = record.headers().lastHeader("ce_type");
        String kind = type == null ? "" : new String(type.value(), StandardCharsets.UTF_8).replaceAll(".*\\.", "");
        System.out.printf("%-40s %-12s %s%n", record.key(), kind, inWords(kind, registry.read(record.value())));
        if (FINAL.contains(kind)) {
          waiting.remove(record.key());
        }
      }
    }
    return waiting;
  }

  private static String inWords(String kind, GenericRecord decision) {
    if (kind.equals("JobPlaced")) {
      var terms = (GenericRecord) decision.get("terms");
      long micros = 0;
      for (Schema.Field term : terms.getSchema().getFields()) {
        micros += (Long) terms.get(term.pos());
      }
      return String.format(
          "in %s at %s, %.2f %s by all terms", decision.get("pool"), decision.get("site"), micros / 1e6, decision.get("currency"));
    }
    if (decision.hasField("limit")) {
      var limit = (GenericRecord) decision.get("limit");
      String subject = limit.get("subject") == null ? "" : " " + limit.get("subject");
      return limit.get("kind") + subject + (decision.hasField("detail") ? " " + decision.get("detail") : "");
    }
    return "";
  }
}
