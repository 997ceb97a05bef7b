public import CoreMetrics
internal import Synchronization

/// Keeps what a process counts and gives it out in the Prometheus text format.
///
/// A program that wants it calls `MetricsSystem.bootstrap(PrometheusMetrics.shared)` once; a grape then
/// answers `/metrics` with it. Labels that come from outside do not exist: every series is known by the
/// code that makes it.
public final class PrometheusMetrics: MetricsFactory {
  /// The metrics of this process.
  public static let shared = PrometheusMetrics()

  /// More series than this are counted together as one (default 10,000).
  static let seriesMax = 10_000

  private let series = Mutex<[String: Series]>([:])

  /// A collection of its own.
  public init() {}

  /// A counter, which only goes up.
  public func makeCounter(
    label: String, dimensions: [(String, String)]
  ) -> any CounterHandler {
    find(label, dimensions, .counter)
  }

  /// What is recorded: its count and its sum.
  public func makeRecorder(
    label: String, dimensions: [(String, String)], aggregate: Bool
  ) -> any RecorderHandler {
    find(label, dimensions, aggregate ? .summary : .gauge)
  }

  /// What goes up and down.
  public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    find(label, dimensions, .gauge)
  }

  /// Durations in nanoseconds: their count and their sum.
  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    find(label, dimensions, .summary)
  }

  /// Nothing is forgotten: series are few.
  public func destroyCounter(_ handler: any CounterHandler) {}
  /// Nothing is forgotten: series are few.
  public func destroyRecorder(_ handler: any RecorderHandler) {}
  /// Nothing is forgotten: series are few.
  public func destroyMeter(_ handler: any MeterHandler) {}
  /// Nothing is forgotten: series are few.
  public func destroyTimer(_ handler: any TimerHandler) {}

  private func find(
    _ label: String, _ dimensions: [(String, String)], _ kind: Series.Kind
  ) -> Series {
    let name = Self.name(label)
    let labels = dimensions.map { "\(Self.name($0.0))=\"\(Self.escaped($0.1))\"" }
    let text = labels.isEmpty ? "" : "{\(labels.joined(separator: ","))}"
    return series.withLock { series in
      if let known = series[name + text] { return known }
      let isFull = series.count >= Self.seriesMax
      let key = isFull ? "grenache_metrics_overflow_total" : name + text
      if isFull, let known = series[key] { return known }
      let made = Series(name: isFull ? key : name, labels: isFull ? "" : text, kind: kind)
      series[key] = made
      return made
    }
  }

  /// Everything, in the Prometheus text format 0.0.4.
  public var text: String {
    let all = series.withLock { $0.values.sorted { ($0.name, $0.labels) < ($1.name, $1.labels) } }
    var result = ""
    var last = ""
    for one in all {
      if one.name != last { result += "# TYPE \(one.name) \(one.kind.rawValue)\n" }
      last = one.name
      result += one.lines
    }
    return result
  }

  /// What the format allows in a name.
  private static func name(_ text: String) -> String {
    String(
      text.map { character in
        character.isASCII && (character.isLetter || character.isNumber || character == "_")
          ? character : "_"
      })
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "\\": result += "\\\\"
      case "\"": result += "\\\""
      case "\n": result += "\\n"
      default: result.append(character)
      }
    }
    return result
  }
}

/// One series: a name, its labels and what has been counted.
final class Series: CounterHandler, RecorderHandler, MeterHandler, TimerHandler {
  enum Kind: String, Sendable {
    case counter
    case gauge
    case summary
  }
  private struct State {
    var count: Int64 = 0
    var value = 0.0
  }

  let name: String
  let labels: String
  let kind: Kind
  private let state = Mutex(State())

  init(name: String, labels: String, kind: Kind) {
    self.name = name
    self.labels = labels
    self.kind = kind
  }

  var lines: String {
    let (count, value) = state.withLock { ($0.count, $0.value) }
    switch kind {
    case .counter: return "\(name)\(labels) \(count)\n"
    case .gauge: return "\(name)\(labels) \(value)\n"
    case .summary: return "\(name)_sum\(labels) \(value)\n\(name)_count\(labels) \(count)\n"
    }
  }

  func increment(by amount: Int64) { state.withLock { $0.count &+= amount } }
  func reset() { state.withLock { $0.count = 0 } }
  func record(_ value: Int64) { record(Double(value)) }
  func recordNanoseconds(_ duration: Int64) { record(Double(duration)) }
  func set(_ value: Int64) { set(Double(value)) }
  func set(_ value: Double) { state.withLock { $0.value = value } }
  func increment(by amount: Double) { state.withLock { $0.value += amount } }
  func decrement(by amount: Double) { state.withLock { $0.value -= amount } }

  func record(_ value: Double) {
    state.withLock { state in
      state.count &+= 1
      state.value = kind == .gauge ? value : state.value + value
    }
  }
}
