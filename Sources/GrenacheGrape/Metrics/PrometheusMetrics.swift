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

  private struct State {
    var series: [String: Series] = [:]
    /// A family has one kind (text format: one TYPE line a name): that of its first series.
    var kinds: [String: Series.Kind] = [:]
  }
  private let state = Mutex(State())
  /// What series have in common for which there was no room.
  private let overflow = Series(
    name: "grenache_metrics_overflow_total", labels: "", kind: .counter)

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

  /// Durations: their count, and their sum in seconds.
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
    var name = Self.name(label)
    if kind == .counter, !name.hasSuffix("_total") { name += "_total" }
    let text = Self.labels(dimensions)
    return state.withLock { state in
      if let known = state.series[name + text] { return known }
      guard state.series.count < Self.seriesMax else { return overflow }
      let kind = state.kinds[name] ?? kind
      state.kinds[name] = kind
      let made = Series(name: name, labels: text, kind: kind)
      state.series[name + text] = made
      return made
    }
  }

  /// Everything, in the Prometheus text format 0.0.4.
  public var text: String {
    var all = state.withLock { Array($0.series.values) }
    if overflow.hasCounted { all.append(overflow) }
    all.sort { ($0.name, $0.labels) < ($1.name, $1.labels) }
    var result = ""
    var last = ""
    for one in all {
      if one.name != last { result += "# TYPE \(one.name) \(one.kind.rawValue)\n" }
      last = one.name
      result += one.lines
    }
    return result
  }

  /// The same labels in another order are the same series, and each label comes once.
  private static func labels(_ dimensions: [(String, String)]) -> String {
    var values: [String: String] = [:]
    for (label, value) in dimensions where values[name(label)] == nil {
      values[name(label)] = escaped(value)
    }
    guard !values.isEmpty else { return "" }
    let sorted = values.sorted { $0.key < $1.key }.map { "\($0.key)=\"\($0.value)\"" }
    return "{\(sorted.joined(separator: ","))}"
  }

  /// What the format allows in a name, which does not begin with a digit.
  private static func name(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "_"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        if result.isEmpty { result = "_" }
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        result += "_"
      }
    }
    return result.isEmpty ? "_" : result
  }

  /// A label's value: scalar by scalar, for a line feed behind a carriage return is no character.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\"": result += "\\\""
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(scalar)
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
    case .counter:
      return "\(name)\(labels) \(count)\n"
    case .gauge:
      return "\(name)\(labels) \(Self.text(value))\n"
    case .summary:
      return "\(name)_sum\(labels) \(Self.text(value))\n\(name)_count\(labels) \(count)\n"
    }
  }

  /// A number as Go writes it, which is what the format asks for.
  private static func text(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    return "\(value)"
  }

  var hasCounted: Bool { state.withLock { $0.count != 0 } }

  func increment(by amount: Int64) { state.withLock { $0.count &+= amount } }
  func reset() { state.withLock { $0.count = 0 } }
  func record(_ value: Int64) { record(Double(value)) }
  func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
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
