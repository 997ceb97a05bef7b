import CoreMetrics
import Testing

@testable import GrenacheGrape

/// Reads the Prometheus text format 0.0.4 as strictly as its description allows.
struct PrometheusPage {
  struct Fault: Error, Hashable, CustomStringConvertible {
    let description: String
  }

  /// The kind of each family.
  private(set) var kinds: [String: String] = [:]
  /// The value of each series, by its name and its sorted labels.
  private(set) var values: [String: Double] = [:]
  private var finished: Set<String> = []
  private var current = ""

  init(_ text: String) throws(Fault) {
    guard text.isEmpty || text.utf8.last == UInt8(ascii: "\n") else {
      throw Fault(description: "the last line has no end")
    }
    for line in text.unicodeScalars.split(separator: "\n") {
      var line = Line(Substring(line))
      if line.skip("# TYPE ") {
        try noteType(&line)
      } else if line.rest.first == "#" {
        continue
      } else {
        try noteSample(&line)
      }
    }
  }

  private mutating func noteType(_ line: inout Line) throws(Fault) {
    let name = try line.name()
    guard line.skip(" ") else { throw line.fault("no kind") }
    let kind = String(line.rest)
    guard ["counter", "gauge", "summary", "histogram", "untyped"].contains(kind) else {
      throw line.fault("an unknown kind")
    }
    try begin(name, line)
    guard kinds.updateValue(kind, forKey: name) == nil else { throw line.fault("a second TYPE") }
    guard kind != "counter" || name.hasSuffix("_total") else {
      throw line.fault("a counter that is not called _total")
    }
  }

  /// All lines of a family come together.
  private mutating func begin(_ family: String, _ line: Line) throws(Fault) {
    guard family != current else { return }
    guard finished.insert(family).inserted else { throw line.fault("a family in two places") }
    current = family
  }

  private mutating func noteSample(_ line: inout Line) throws(Fault) {
    let name = try line.name()
    var family = name
    for suffix in ["_sum", "_count"] where name.hasSuffix(suffix) {
      let base = String(name.dropLast(suffix.count))
      if kinds[base] == "summary" { family = base }
    }
    guard kinds[family] != nil else { throw line.fault("no TYPE before") }
    try begin(family, line)
    let labels = try line.labels()
    guard line.skip(" ") else { throw line.fault("no value") }
    let value = try line.number()
    let series = name + labels.sorted { $0.key < $1.key }.map { "|\($0.key)=\($0.value)" }.joined()
    guard values.updateValue(value, forKey: series) == nil else {
      throw line.fault("a series twice")
    }
  }
}

/// One line that is read from its beginning.
private struct Line {
  let whole: Substring
  var rest: Substring.UnicodeScalarView

  init(_ text: Substring) {
    whole = text
    rest = text.unicodeScalars
  }

  func fault(_ reason: String) -> PrometheusPage.Fault {
    PrometheusPage.Fault(description: "\(reason): \(whole)")
  }

  mutating func skip(_ text: String) -> Bool {
    guard rest.starts(with: text.unicodeScalars) else { return false }
    rest = rest.dropFirst(text.unicodeScalars.count)
    return true
  }

  /// A name of a metric; of a label, without a colon.
  mutating func name(isLabel: Bool = false) throws(PrometheusPage.Fault) -> String {
    let name = rest.prefix { scalar in
      scalar.isASCII
        && (scalar.properties.isAlphabetic || scalar == "_" || !isLabel && scalar == ":"
          || ("0"..."9").contains(scalar))
    }
    guard let first = name.first, !("0"..."9").contains(first) else { throw fault("no name") }
    rest = rest.dropFirst(name.count)
    return String(name)
  }

  mutating func labels() throws(PrometheusPage.Fault) -> [String: String] {
    guard skip("{") else { return [:] }
    var labels: [String: String] = [:]
    while !skip("}") {
      if !labels.isEmpty, !skip(",") { throw fault("no comma between labels") }
      let name = try name(isLabel: true)
      guard skip("=\"") else { throw fault("a label without a value") }
      guard labels.updateValue(try quoted(), forKey: name) == nil else {
        throw fault("a label twice")
      }
    }
    return labels
  }

  /// What is left up to the closing quote.
  private mutating func quoted() throws(PrometheusPage.Fault) -> String {
    var value = String.UnicodeScalarView()
    while let scalar = rest.popFirst() {
      if scalar == "\"" { return String(value) }
      guard scalar == "\\" else {
        value.append(scalar)
        continue
      }
      switch rest.popFirst() {
      case "\\": value.append("\\")
      case "\"": value.append("\"")
      case "n": value.append("\n")
      default: throw fault("an unknown escape")
      }
    }
    throw fault("a value without an end")
  }

  func number() throws(PrometheusPage.Fault) -> Double {
    switch String(rest) {
    case "NaN": return .nan
    case "+Inf": return .infinity
    case "-Inf": return -.infinity
    case let text:
      guard text.allSatisfy({ "+-.eE0123456789".contains($0) }), let value = Double(text) else {
        throw fault("no number")
      }
      return value
    }
  }
}

@Suite("The Prometheus text format")
struct PrometheusTests {
  @Test(
    "the reader of these tests refuses what the format does not allow",
    arguments: [
      "x_total 1\n", "# TYPE x counter\nx 1\n", "# TYPE x gauge\nx 1", "# TYPE x gauge\nx one\n",
      "# TYPE x gauge\nx inf\n", "# TYPE x gauge\nx{a=\"1\"} 1\nx{a=\"1\"} 2\n",
      "# TYPE x gauge\nx 1\n# TYPE y gauge\ny 1\nx{a=\"2\"} 1\n", "# TYPE x gauge\nx{a=1} 1\n",
      "# TYPE x gauge\n# TYPE x gauge\nx 1\n", "# TYPE x gauge\nx{a=\"\\t\"} 1\n",
      "# TYPE x gauge\nx{a=\"1\",a=\"2\"} 1\n", "# TYPE 1x gauge\n1x 1\n", "# TYPE x number\nx 1\n",
      "# TYPE x gauge\nx{a-b=\"\"} 1\n", "# TYPE x gauge\nx{a=\"\n\"} 1\n",
    ])
  func refused(_ page: String) {
    #expect(throws: PrometheusPage.Fault.self) { try PrometheusPage(page) }
  }

  @Test("every kind of metric, with labels that need escaping, in any order, and odd numbers")
  func page() throws {
    let metrics = PrometheusMetrics()
    metrics.makeCounter(label: "requests", dimensions: []).increment(by: 2)
    metrics.makeCounter(label: "requests_total", dimensions: []).increment(by: 3)
    let odd = "a\"b\\c\nd\r\ne"
    metrics.makeCounter(label: "odd.name-total", dimensions: [("the label", odd)]).increment(by: 1)
    metrics.makeCounter(label: "two", dimensions: [("b", "2"), ("a", "1")]).increment(by: 1)
    metrics.makeCounter(label: "two", dimensions: [("a", "1"), ("b", "2"), ("a", "9")])
      .increment(by: 1)
    metrics.makeMeter(label: "3gauge", dimensions: []).set(-.infinity)
    metrics.makeMeter(label: "nothing", dimensions: []).set(.nan)
    metrics.makeTimer(label: "took_seconds", dimensions: []).recordNanoseconds(1_500_000_000)
    metrics.makeRecorder(label: "size", dimensions: [], aggregate: true).record(5 as Int64)
    metrics.makeRecorder(label: "last", dimensions: [], aggregate: false).record(7 as Int64)
    metrics.makeMeter(label: "two_total", dimensions: [("kind", "another")]).set(4.0)
    let page = try PrometheusPage(metrics.text)
    #expect(page.values["requests_total"] == 5)
    #expect(page.values["odd_name_total|the_label=\(odd)"] == 1)
    #expect(page.values["two_total|a=1|b=2"] == 2)
    #expect(page.values["_3gauge"] == -.infinity && page.values["nothing"]?.isNaN == true)
    #expect(page.values["took_seconds_sum"] == 1.5 && page.values["took_seconds_count"] == 1)
    #expect(page.values["size_sum"] == 5 && page.values["last"] == 7)
    #expect(page.kinds["two_total"] == "counter" && page.kinds["took_seconds"] == "summary")
  }

  @Test("more series than there is room for are counted together")
  func overflow() throws {
    let metrics = PrometheusMetrics()
    for number in 0..<(PrometheusMetrics.seriesMax + 2) {
      metrics.makeCounter(label: "many", dimensions: [("n", "\(number)")]).increment(by: 1)
    }
    let page = try PrometheusPage(metrics.text)
    #expect(page.values.count == PrometheusMetrics.seriesMax + 1)
    #expect(page.values["grenache_metrics_overflow_total"] == 2)
  }
}
