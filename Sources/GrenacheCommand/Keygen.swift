import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTLS

/// `grenache keygen`
struct Keygen: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make the key that signs mutable items, and print its public key.",
    discussion: """
      Existing tools use the same files: the key, which only its owner can read, and beside it the \
      public key with .pub behind its name. Exit code 73 when there is a key already.
      """)

  @Flag(
    name: .shortAndLong,
    help: "Replace the key that is there; what it has signed cannot be changed any more.")
  var force = false
  @Flag(name: .shortAndLong, help: "Print a JSON object.")
  var json = false
  @OptionGroup var key: KeyFileOptions

  func run() async throws {
    try await runCommand(mapping: { _ in .cannotCreate }) {
      let file = try key.path()
      guard force || !FileManager.default.fileExists(atPath: file) else {
        throw CommandFailure(.cannotCreate, "\(file) exists already; --force replaces it.")
      }
      let pair = try ItemKeyPair()
      try pair.write(to: file, replacing: force)
      let publicKey = Digest.hex(pair.publicKey)
      printError("the key is in \(file)")
      printLine(json ? JSONLine.object(["file": file, "publicKey": publicKey]) : publicKey)
    }
  }
}

/// Where the key is.
struct KeyFileOptions: ParsableArguments {
  @Option(
    name: [.customShort("k"), .long],
    help: "The file of the key; by default .grenache-cli/key in the home folder.",
    completion: .file())
  var keyFile: String?

  func path() throws -> String {
    if let keyFile { return keyFile }
    guard let home = ProcessInfo.processInfo.environment["HOME"], !home.isEmpty else {
      throw CommandFailure(.usage, "there is no home folder: name the key's file by --key-file.")
    }
    return "\(home)/.grenache-cli/key"
  }

  /// The same, of a key that has to be there.
  func existing() throws -> String {
    let path = try path()
    guard FileManager.default.fileExists(atPath: path) else {
      throw CommandFailure(
        .configuration, "there is no key at \(path): make one with grenache keygen.")
    }
    return path
  }
}
