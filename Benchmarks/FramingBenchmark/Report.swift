import Foundation

/// How measurements are shown.
enum Report {
  static func table(_ rows: [Measurement]) -> String {
    let head = line("case", "rate", "goal", "allocations", "")
    return ([head] + rows.map(line)).joined(separator: "\n")
  }

  static func json(_ rows: [Measurement]) -> String {
    let objects = rows.map { row in
      "{\"name\": \"\(row.name)\", \"unit\": \"\(row.unit.rawValue)\", "
        + "\"perSecond\": \(Int(row.perSecond)), \"goal\": \(Int(row.goal)), "
        + "\"allocations\": \(row.allocations), \"good\": \(row.isGood)}"
    }
    return "[\n  \(objects.joined(separator: ",\n  "))\n]"
  }

  private static func line(_ row: Measurement) -> String {
    line(
      row.name, "\(scaled(row.perSecond)) \(row.unit.rawValue)",
      row.goal > 0 ? scaled(row.goal) : "-", String(format: "%.3f", row.allocations),
      row.isGood ? "" : "MISSED")
  }

  private static func line(
    _ name: String, _ rate: String, _ goal: String, _ allocations: String, _ verdict: String
  ) -> String {
    func left(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(0, width - text.count))
    }
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    return
      "\(left(name, 34))\(right(rate, 16))\(right(goal, 10))\(right(allocations, 14))  \(verdict)"
  }

  private static func scaled(_ value: Double) -> String {
    if value >= 1e9 { return String(format: "%.2f G", value / 1e9) }
    return String(format: value >= 1e6 ? "%.2f M" : "%.0f", value >= 1e6 ? value / 1e6 : value)
  }
}
