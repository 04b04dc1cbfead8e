import com.google.protobuf.CodedInputStream;
import com.google.protobuf.Descriptors;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.util.JsonFormat;
import io.apicurio.registry.utils.protobuf.schema.FileDescriptorUtils;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;

/**
 * Reads messages in Confluent's wire format, each a line of base64, and prints what Apache Avro makes of each, with logical types, or what Google's
 * library makes of Protocol Buffers, as JSON.
 */
public class Reader {
  public static void main(String[] args) throws Exception {
    GenericData data = new GenericData();
    data.addLogicalTypeConversion(new Conversions.DecimalConversion());
    data.addLogicalTypeConversion(new Conversions.UUIDConversion());
    data.addLogicalTypeConversion(new TimeConversions.DateConversion());
    data.addLogicalTypeConversion(new TimeConversions.TimeMillisConversion());
    data.addLogicalTypeConversion(new TimeConversions.TimeMicrosConversion());
    data.addLogicalTypeConversion(new TimeConversions.TimestampMillisConversion());
    data.addLogicalTypeConversion(new TimeConversions.TimestampMicrosConversion());
    data.addLogicalTypeConversion(new TimeConversions.LocalTimestampMillisConversion());
    data.addLogicalTypeConversion(new TimeConversions.LocalTimestampMicrosConversion());
    HttpClient http = HttpClient.newHttpClient();
    Map<Integer, Schema> schemas = new HashMap<>();
    Map<Integer, Descriptors.FileDescriptor> files = new HashMap<>();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      ByteBuffer message = ByteBuffer.wrap(Base64.getDecoder().decode(line));
      if (message.get() != 0) {
        throw new IllegalArgumentException("no magic byte");
      }
      int id = message.getInt();
      Schema schema = schemas.get(id);
      if (schema == null && !files.containsKey(id)) {
        String body = http.send(HttpRequest.newBuilder(URI.create(args[0] + "/schemas/ids/" + id)).build(), HttpResponse.BodyHandlers.ofString()).body();
        if (body.contains("\"PROTOBUF\"")) {
          String text = textOf(body);
          String space = text.substring(text.indexOf("package ") + 8, text.indexOf(';', text.indexOf("package ")));
          files.put(id, FileDescriptorUtils.protoFileToFileDescriptor(text, "schema" + id + ".proto", Optional.of(space)));
        } else {
          schema = new Schema.Parser().parse(textOf(body));
          schemas.put(id, schema);
        }
      }
      if (schema == null) {
        System.out.println(protobuf(files.get(id), message));
        continue;
      }
      BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(message.array(), message.position(), message.remaining(), null);
      Object record = new GenericDatumReader<Object>(schema, schema, data).read(null, decoder);
      if (!decoder.isEnd()) {
        throw new IllegalArgumentException("bytes are left");
      }
      System.out.println(data.toString(record));
    }
  }

  /** Reads a message of the type whose place in the file is in front of it. */
  private static String protobuf(Descriptors.FileDescriptor file, ByteBuffer message) throws Exception {
    CodedInputStream in = CodedInputStream.newInstance(message);
    int index = 0;
    for (int left = in.readSInt32(); left > 0; left--) {
      if (left > 1) {
        throw new IllegalArgumentException("a nested type");
      }
      index = in.readSInt32();
    }
    DynamicMessage record = DynamicMessage.parseFrom(file.getMessageTypes().get(index), in);
    if (!record.getUnknownFields().asMap().isEmpty()) {
      throw new IllegalArgumentException("the schema does not have the fields " + record.getUnknownFields());
    }
    return JsonFormat.printer().omittingInsignificantWhitespace().print(record);
  }

  /** Returns the string "schema" of a JSON object. */
  private static String textOf(String body) {
    int at = body.indexOf("\"schema\"");
    at = body.indexOf('"', body.indexOf(':', at)) + 1;
    StringBuilder text = new StringBuilder();
    for (; body.charAt(at) != '"'; at++) {
      char c = body.charAt(at);
      if (c == '\\') {
        c = body.charAt(++at);
        if (c == 'u') {
          c = (char) Integer.parseInt(body.substring(at + 1, at + 5), 16);
          at += 4;
        } else if (c == 'n') {
          c = '\n';
        }
      }
      text.append(c);
    }
    return text.toString();
  }
}
