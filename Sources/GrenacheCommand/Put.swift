import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport

/// `grenache put TEXT`
struct Put: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Store a text in the DHT (BEP 44) and print where.",
    discussion: """
      An immutable item is found by the hash of its text. A mutable one is found by the public key and \
      the salt, and may be replaced by whoever has the key of grenache keygen. Several words are one \
      text, with spaces between them; a single '-' is standard input.
      """)

  @Argument(help: "The text.")
  var words: [String]
  @Flag(name: .shortAndLong, help: "Store a mutable item, signed with the key.")
  var mutable = false
  @Option(name: .shortAndLong, help: "Tells items of one key from each other.")
  var salt: String?
  @Option(
    name: .shortAndLong,
    help: """
      The sequence number, greater than that of what is stored; by default the microseconds since 1970.
      """)
  var number: Int64?
  @Option(
    name: .shortAndLong, help: "Store it only if what is stored has this sequence number.")
  var cas: Int64?
  @OptionGroup var key: KeyFileOptions
  @Flag(name: .shortAndLong, help: "Print a JSON object.")
  var json = false
  @Option(help: "Seconds for the whole of it.")
  var timeout: Double = 10
  @OptionGroup var options: GrapeToolOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try duration(timeout)
      let text = words == ["-"] ? try await Self.input() : words.joined(separator: " ")
      guard mutable || (salt == nil && number == nil && cas == nil) else {
        throw CommandFailure(.usage, "--salt, --number and --cas belong to --mutable.")
      }
      let pair = mutable ? try ItemKeyPair(file: try key.existing()) : nil
      let link = try await options.link()
      let progress = TerminalProgress(isWanted: !json)
      progress.show("storing \(text.utf8.count) bytes")
      defer { progress.clear() }
      let sequence = number ?? Self.microseconds()
      let target: ItemTarget
      if let pair {
        target = try await link.put(
          text, signedBy: pair, salt: salt ?? "", sequence: sequence, compareAndSwap: cas,
          within: timeout)
      } else {
        target = try await link.put(text, within: timeout)
      }
      progress.clear()
      printLine(
        json
          ? JSONLine.object([
            "target": "\(target)", "number": mutable ? Int(sequence) : NSNull(),
          ]) : "\(target)")
      await link.close()
    }
  }

  /// Two puts of one person come one after the other: the later one has the greater number.
  private static func microseconds() -> Int64 {
    Int64(Date().timeIntervalSince1970 * 1e6)
  }

  /// All of standard input, as it is.
  private static func input() async throws -> String {
    try await StandardStreams.inputText(bytesMax: StoredItem.valueBytesMax, of: "a value")
  }
}
