import ArgumentParser

/// What the framers do in a second on one core, and what they allocate for it.
@main
struct FramingBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Parse, unmask, validate and compress; print rates and allocations.")

  @Option(help: "The seconds for each case; the best of five parts of them counts.")
  var seconds = 1.0
  @Option(help: "Run only cases whose name has this in it.")
  var filter = ""
  @Flag(help: "Print JSON in place of a table.")
  var json = false
  @Flag(help: "Fail when a goal is missed.")
  var strict = false

  func run() throws {
    let cases = HTTPCases.all + WebSocketCases.all + CompressionCases.all
    var rows: [Measurement] = []
    for one in cases where filter.isEmpty || one.name.contains(filter) {
      rows.append(one.measure(seconds: seconds))
    }
    print(json ? Report.json(rows) : Report.table(rows))
    if strict, rows.contains(where: { !$0.isGood }) { throw ExitCode.failure }
  }
}
