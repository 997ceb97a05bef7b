import DHTSimulation
import Foundation

/// Four small charts over the logarithm of the network's size.
struct Plot {
  private let results: [GrowthMeasurement]
  private let width = 420.0
  private let height = 260.0

  init(_ results: [GrowthMeasurement]) { self.results = results }

  var svg: String {
    let charts = [
      chart(
        "Hops", [("mean", results.map(\.hopsMean)), ("max", results.map { Double($0.hopsMax) })]),
      chart("Messages a lookup", [("mean", results.map(\.messagesMean))]),
      chart(
        "Latency, ms",
        [50, 99].map { percentile in
          ("p\(percentile)", results.map { $0.latency(percentile: percentile) })
        }),
      chart("Success, %", [("", results.map(\.successPercent))]),
    ]
    let placed = charts.enumerated().map { index, chart in
      "<g transform='translate(\(Double(index % 2) * width),\(Double(index / 2) * height))'>\(chart)</g>"
    }
    return """
      <svg xmlns='http://www.w3.org/2000/svg' width='\(width * 2)' height='\(height * 2)' \
      font-family='sans-serif' font-size='12'><rect width='100%' height='100%' fill='white'/>
      \(placed.joined(separator: "\n"))</svg>
      """
  }

  private func chart(_ title: String, _ lines: [(String, [Double])]) -> String {
    let top = max(1, lines.flatMap(\.1).max() ?? 1) * 1.1
    let sizes = results.map { log2(Double($0.nodes)) }
    let (low, high) = (sizes.min() ?? 0, max(sizes.max() ?? 1, (sizes.min() ?? 0) + 1))
    func x(_ size: Double) -> Double { 50 + (size - low) / (high - low) * (width - 90) }
    func y(_ value: Double) -> Double { height - 40 - value / top * (height - 80) }
    var parts = ["<text x='50' y='22' font-weight='bold'>\(title)</text>"]
    parts.append(
      "<path d='M50 30V\(height - 40)H\(width - 30)' fill='none' stroke='#888'/>")
    for (size, result) in zip(sizes, results) {
      parts.append(
        "<text x='\(x(size))' y='\(height - 22)' text-anchor='middle'>\(result.nodes)</text>")
    }
    parts.append(
      "<text x='\(width / 2)' y='\(height - 6)' text-anchor='middle' fill='#666'>nodes, log₂ scale</text>"
    )
    for step in 0...4 {
      let value = top / 4 * Double(step)
      let text = String(format: value < 10 ? "%.1f" : "%.0f", value)
      parts.append("<text x='44' y='\(y(value) + 4)' text-anchor='end'>\(text)</text>")
    }
    for (index, (name, values)) in lines.enumerated() {
      let color = ["#1464b4", "#c83c28"][index % 2]
      let points = zip(sizes, values).map { "\(x($0)),\(y($1))" }.joined(separator: " ")
      parts.append(
        "<polyline points='\(points)' fill='none' stroke='\(color)' stroke-width='2'/>")
      if let last = values.last {
        parts.append(
          "<text x='\(width - 28)' y='\(y(last) - 6)' fill='\(color)' text-anchor='end'>\(name)</text>"
        )
      }
    }
    return parts.joined()
  }
}
