import Foundation
import TestSupport
import Testing

/// Which input of a target is running, for what it says of it.
private enum Round {
  @TaskLocal static var name = ""
  @TaskLocal static var input: [UInt8] = []
}

/// What a target asks for, as a test has it; the fuzzer ends the process in its place.
func require(_ condition: Bool, _ message: String) {
  if !condition { Issue.record("\(Round.name) \(Round.input): \(message)") }
}

@Suite(
  "P1 No input ends the process: every fuzz target, as far as a test's time goes",
  .timeLimit(.minutes(5)))
struct FuzzTests {
  /// How often a target runs on inputs that were made of its seeds. `make fuzz` goes on from there.
  private static func rounds(of target: FuzzTarget) -> Int {
    switch target {
    case .certificate, .policy: 300  // each takes a thousand times as long as the others
    case .httpRequest, .httpResponse, .chunked, .websocket, .deflate, .gzip, .envelope, .krpc,
      .bencode, .pubsub, .context, .grapeRequest, .grapeAnswer:
      2_000
    }
  }

  @Test(
    "P1 every seed, cut everywhere that its first bytes can say", arguments: FuzzTarget.allCases)
  func seeds(_ target: FuzzTarget) throws {
    let seeds = try Self.seeds(of: target)
    #expect(!seeds.isEmpty)
    for (name, seed) in seeds {
      Round.$name.withValue(name) {
        target.run(FuzzInput(seed))
        guard seed.count > 1, seed.count < 2_000 else { return }
        for cut in stride(from: 0, through: 255, by: 15) {
          target.run(FuzzInput([seed[0], UInt8(cut)] + seed[2...]))
        }
      }
    }
  }

  @Test(
    "P1 thousands of mutations of the seeds, by a seed of their own", arguments: FuzzTarget.allCases
  )
  func mutations(_ target: FuzzTarget) throws {
    let seeds = try Self.seeds(of: target).map(\.1)
    var generator = SeededGenerator(seed: 0x6772_656e)
    for _ in 0..<Self.rounds(of: target) {
      let input = Self.mutation(of: seeds, &generator)
      Round.$input.withValue(input) { target.run(FuzzInput(input)) }
    }
  }

  /// The seeds of a target by name, in order.
  private static func seeds(of target: FuzzTarget) throws -> [(String, [UInt8])] {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Seeds/\(target.rawValue)")
    return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().map { name in
      (name, Array(try Data(contentsOf: folder.appending(path: name))))
    }
  }

  /// One to four changes to one of `seeds`.
  private static func mutation(
    of seeds: [[UInt8]], _ generator: inout SeededGenerator
  ) -> [UInt8] {
    var input = seeds.randomElement(using: &generator) ?? []
    for _ in 0..<Int.random(in: 1...4, using: &generator) {
      if input.isEmpty { input = [0] }
      let index = Int.random(in: 0..<input.count, using: &generator)
      let length = min(Int.random(in: 1...16, using: &generator), input.count - index)
      switch Int.random(in: 0..<7, using: &generator) {
      case 0: input[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1: input[index] = UInt8.random(in: 0...255, using: &generator)
      case 2:
        input[index] =
          [0, 0x0a, 0x0d, 0x20, 0x3a, 0x7f, 0x80, 0xff].randomElement(using: &generator) ?? 0
      case 3: input.removeSubrange(index..<(index + length))
      case 4: input.insert(contentsOf: input[index..<(index + length)], at: index)
      case 5: input.removeSubrange(index...)
      default:
        let other = seeds.randomElement(using: &generator) ?? []
        input.replaceSubrange(index..., with: other.suffix(max(other.count - index, 0)))
      }
    }
    return Array(input.prefix(4_096))
  }
}
