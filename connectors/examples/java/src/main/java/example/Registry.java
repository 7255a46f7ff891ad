package example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * What this example needs of a schema registry with Confluent's API: the newest schema of a subject, the schema of an id, and values that
 * are framed with the id (a zero byte, the id as four bytes, the Avro body).
 */
final class Registry {
  /** A schema with the registry's id. */
  record Registered(int id, Schema schema) {}

  private static final int FRAME_LEN = 5;

  private final String url;
  private final String authorization;
  private final HttpClient http = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(5)).build();
  private final ObjectMapper json = new ObjectMapper();
  private final Map<Integer, Schema> byId = new ConcurrentHashMap<>();

  /** {@code authorization} is the value of the header, or null. */
  Registry(String url, String authorization) {
    this.url = url.replaceAll("/+$", "");
    this.authorization = authorization;
  }

  Registered latest(String subject) throws IOException, InterruptedException {
    JsonNode found = get("/subjects/" + subject + "/versions/latest");
    return new Registered(found.get("id").asInt(), new Schema.Parser().parse(found.get("schema").asText()));
  }

  Schema byId(int id) throws IOException, InterruptedException {
    Schema known = byId.get(id);
    if (known == null) {
      known = new Schema.Parser().parse(get("/schemas/ids/" + id).get("schema").asText());
      byId.put(id, known);
    }
    return known;
  }

  byte[] framed(Registered with, GenericRecord event) throws IOException {
    var out = new java.io.ByteArrayOutputStream();
    out.write(0);
    out.write(ByteBuffer.allocate(4).putInt(with.id()).array());
    var encoder = EncoderFactory.get().binaryEncoder(out, null);
    new GenericDatumWriter<GenericRecord>(with.schema()).write(event, encoder);
    encoder.flush();
    return out.toByteArray();
  }

  GenericRecord read(byte[] value) throws IOException, InterruptedException {
    if (value.length < FRAME_LEN || value[0] != 0) {
      throw new IOException("a value without a Confluent frame");
    }
    Schema writer = byId(ByteBuffer.wrap(value, 1, 4).getInt());
    var decoder = DecoderFactory.get().binaryDecoder(value, FRAME_LEN, value.length - FRAME_LEN, null);
    return new GenericDatumReader<GenericRecord>(writer).read(null, decoder);
  }

  private JsonNode get(String path) throws IOException, InterruptedException {
    var request = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(10));
    if (authorization != null) {
      request.header("authorization", authorization);
    }
    HttpResponse<String> answer = http.send(request.build(), HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 200) {
      throw new IOException("GET " + url + path + " gave status " + answer.statusCode() + ": " + answer.body());
    }
    return json.readTree(answer.body());
  }
}
