import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * Starts a node of Elasticsearch in this process, and closes it when the process is terminated.
 *
 * <p>Elasticsearch's own main class wants its launcher in front of it, an agent and a folder of
 * native libraries, none of which is on Maven Central. What answers requests is the same.
 */
public final class LabNode {
  private LabNode() {}

  /**
   * Runs until SIGTERM.
   *
   * @param args the folder that holds elasticsearch.yml, which must set path.home
   * @throws Exception the node does not start; the process ends
   */
  public static void main(String[] args) throws Exception {
    LogConfigurator.registerErrorListener();
    Environment environment =
        InternalSettingsPreparer.prepareEnvironment(
            Settings.EMPTY, Map.of(), Path.of(args[0]), () -> "lab");
    LogConfigurator.configureWithoutConfig(environment.settings());
    try {
      start(environment);
    } catch (Exception | Error error) {
      error.printStackTrace();
      // Threads of a half-started node would keep the process alive.
      System.exit(1);
    }
  }

  private static void start(Environment environment) throws Exception {
    PluginsLoader modules =
        PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(environment.modulesDir(), false),
            Set.of(),
            Map.of(),
            false);
    Node node = new Node(environment, modules);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    // All threads of a node are daemons: the process lives as long as this one waits.
    Thread.currentThread().join();
  }

  private static void close(Node node) {
    try {
      node.close();
    } catch (IOException error) {
      error.printStackTrace();
    }
  }
}
