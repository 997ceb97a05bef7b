import Foundation
import TestSupport
import Testing

@Suite("Building and installing", .timeLimit(.minutes(1)))
struct InstallationTests {
  private let folder: TemporaryFolder
  /// A folder with a compiler that does nothing but fail.
  private let tools: String

  init() throws {
    folder = try TemporaryFolder()
    tools = "\(folder.path)/tools"
    try FileManager.default.createDirectory(atPath: tools, withIntermediateDirectories: true)
    try "#!/bin/sh\nexit 99\n".write(
      toFile: "\(tools)/swift", atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o755], ofItemAtPath: "\(tools)/swift")
  }

  private func make(_ arguments: String...) async throws -> Ended {
    try await run(
      "/usr/bin/env", ["make", "-C", GeneratedCertificates.packageRoot] + arguments,
      environment: ["PATH": "\(tools):/usr/bin:/bin"])
  }

  @Test("make install takes what is built, for whoever installs may have no compiler: root, say")
  func install() async throws {
    let made = try await make(
      "install", "BIN=\(Programs.folder)", "DESTDIR=\(folder.path)/root", "PREFIX=/usr")
    #expect(made.status == 0, "\(made.output)\(made.errors)")
    for name in ["bin/grape", "bin/grenache", "share/bash-completion/completions/grenache"] {
      #expect(FileManager.default.fileExists(atPath: "\(folder.path)/root/usr/\(name)"), "\(name)")
    }
  }

  @Test("make install builds what is not there")
  func nothingBuilt() async throws {
    let steps = try await make("--dry-run", "install", "BIN=\(folder.path)", "PREFIX=/nowhere")
    #expect(steps.status == 0 && steps.output.contains("swift build"), "\(steps.errors)")
  }

  @Test(
    "scripts/setup.sh, where packages are of another kind: what has to be there is said, and that is all",
    arguments: [[], ["--tests"]])
  func otherSystems(_ options: [String]) async throws {
    let script = "\(GeneratedCertificates.packageRoot)/scripts/setup.sh"
    let ended = try await run("/bin/sh", [script] + options, environment: ["PATH": tools])
    #expect(ended.status == 0, "\(ended.errors)")
    for name in ["OpenSSL 3", "zlib", "SQLite"] {
      #expect(ended.errors.contains(name), "\(name): \(ended.errors)")
    }
    #expect(ended.errors.contains("haproxy") == (options == ["--tests"]), "\(ended.errors)")
  }
}
