import java.util.Map;
import java.util.regex.Pattern;
import org.apache.lucene.analysis.email.UAX29URLEmailTokenizer;
import org.apache.lucene.analysis.miscellaneous.RemoveDuplicatesTokenFilter;
import org.apache.lucene.analysis.pattern.PatternCaptureGroupTokenFilter;
import org.apache.lucene.analysis.TokenStream;
import org.elasticsearch.index.analysis.TokenFilterFactory;
import org.elasticsearch.index.analysis.TokenizerFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.plugins.Plugin;

/**
 * The parts of Elasticsearch's module analysis-common that the index of its API keys names.
 *
 * <p>That index has an analyzer for the e-mail addresses of users. Nothing here searches for one;
 * without the analyzer the index can't be made, and without the index there is no API key.
 */
public final class LabAnalysis extends Plugin implements AnalysisPlugin {
  @Override
  public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
    return Map.of(
        "uax_url_email",
        (index, environment, name, settings) ->
            TokenizerFactory.newFactory(name, UAX29URLEmailTokenizer::new));
  }

  @Override
  public Map<String, AnalysisProvider<TokenFilterFactory>> getTokenFilters() {
    return Map.of(
        "unique",
        (index, environment, name, settings) ->
            new Filter(name) {
              @Override
              public TokenStream create(TokenStream tokens) {
                return new RemoveDuplicatesTokenFilter(tokens);
              }
            },
        "pattern_capture",
        AnalysisPlugin.requiresAnalysisSettings(
            (index, environment, name, settings) -> {
              boolean keep = settings.getAsBoolean("preserve_original", true);
              Pattern[] patterns =
                  settings.getAsList("patterns").stream()
                      .map(Pattern::compile)
                      .toArray(Pattern[]::new);
              return new Filter(name) {
                @Override
                public TokenStream create(TokenStream tokens) {
                  return new PatternCaptureGroupTokenFilter(tokens, keep, patterns);
                }
              };
            }));
  }

  private abstract static class Filter implements TokenFilterFactory {
    private final String name;

    private Filter(String name) {
      this.name = name;
    }

    @Override
    public String name() {
      return name;
    }
  }
}
