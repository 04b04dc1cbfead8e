import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.Header;
import io.debezium.engine.format.Json;
import io.debezium.engine.format.KeyValueHeaderChangeEventFormat;
import java.io.FileInputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** Runs a connector and prints its records, a line each: topic, key, value and headers, in base64, separated by blanks. It ends with its input. */
public class Engine {
    static String text(Object o) {
        if (o == null) {
            return "-";
        }
        return Base64.getEncoder().encodeToString(o.toString().getBytes(StandardCharsets.UTF_8));
    }

    public static void main(String[] args) throws Exception {
        Properties props = new Properties();
        try (FileInputStream in = new FileInputStream(args[0])) {
            props.load(in);
        }
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(
                KeyValueHeaderChangeEventFormat.of(Json.class, Json.class, Json.class))
                .using(props)
                .using((success, message, error) -> out.println("end " + text(message) + " " + text(error)))
                .notifying(event -> {
                    StringBuilder line = new StringBuilder("record ");
                    line.append(text(event.destination())).append(' ').append(text(event.key())).append(' ').append(text(event.value()));
                    for (Header<String> h : event.<String>headers()) {
                        line.append(' ').append(text(h.getKey() + "=" + h.getValue()));
                    }
                    out.println(line);
                })
                .build();
        ExecutorService executor = Executors.newSingleThreadExecutor();
        executor.execute(engine);
        while (System.in.read() >= 0) {
        }
        engine.close();
        executor.shutdown();
        executor.awaitTermination(20, TimeUnit.SECONDS);
        System.exit(0);
    }
}
