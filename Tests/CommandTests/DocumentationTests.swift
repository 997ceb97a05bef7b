import Foundation
import Grenache
import TestSupport
import Testing

/// A file of the package.
private func text(_ path: String) throws -> String {
  try String(contentsOfFile: "\(GeneratedCertificates.packageRoot)/\(path)", encoding: .utf8)
}

/// The files below a folder with such a name.
private func files(_ folder: String, _ suffix: String) -> [String] {
  let root = "\(GeneratedCertificates.packageRoot)/\(folder)"
  let below = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
  return below.filter { $0.hasSuffix(suffix) }.map { "\(folder)/\($0)" }.sorted()
}

/// The blocks of a language in a page.
private func blocks(_ language: String, in page: String) -> [String] {
  page.components(separatedBy: "```\(language)\n").dropFirst().compactMap {
    $0.components(separatedBy: "```").first
  }
}

@Suite("What the documentation shows is true", .timeLimit(.minutes(2)))
struct DocumentationTests {
  private static let pages =
    ["README.md", "Examples/README.md"] + files("docs", ".md") + files("Sources", ".md")

  /// The lines of a program, without indentation, empty lines, comments, and imports.
  private func lines(_ code: String) -> [String] {
    code.split(separator: "\n").map { line in
      let code = line.firstRange(of: "// ").map { line[..<$0.lowerBound] } ?? line
      return code.split(separator: " ").joined(separator: " ")
    }.filter { !$0.isEmpty && !$0.hasPrefix("import ") }
  }

  @Test("every block of Swift is part of a file that is compiled", arguments: pages)
  func swift(_ page: String) throws {
    let compiled = try
      (files("Examples", ".swift") + files("Tests/DocumentationSnippets", ".swift"))
      .map { lines(try text($0)) }
    for block in blocks("swift", in: try text(page)) {
      let block = lines(block)
      if block.first?.hasPrefix(".package(") == true {
        // Of a manifest, the lines one by one, wherever they stand.
        for line in block.map({ $0.hasSuffix(",") ? String($0.dropLast()) : $0 }) {
          #expect(compiled.joined().contains { $0.contains(line) }, "\(line)")
        }
      } else {
        #expect(compiled.contains { $0.contains(block) }, "\(block.joined(separator: "\n"))")
      }
    }
  }

  @Test("every block of YAML is a policy that can be used", arguments: pages)
  func policies(_ page: String) throws {
    let folder = try TemporaryFolder()
    for block in blocks("yaml", in: try text(page)) {
      let file = "\(folder.path)/policy.yaml"
      try block.write(toFile: file, atomically: true, encoding: .utf8)
      _ = try AccessControl(file: file)
    }
  }

  /// What a pattern captures in the sources, whatever file it is in.
  private static func literals(_ pattern: Regex<(Substring, Substring)>) throws -> Set<String> {
    var found: Set<String> = []
    for file in files("Sources", ".swift") {
      for literal in try text(file).matches(of: pattern) { found.insert(String(literal.1)) }
    }
    return found
  }

  /// The names that begin with `grenache_`; behind one, in the same line, `_lookups_total` and `…_lookups_total`
  /// are short for names with the same first two words.
  private static func metricNames(in page: String) -> [String] {
    page.split(separator: "\n").flatMap { line in
      var (names, beginning) = ([String](), Substring())
      for code in line.matches(of: /`(…?)([a-z0-9_]+)[^`]*`/) {
        if let whole = code.2.prefixMatch(of: /(grenache_[a-z0-9]+)_[a-z0-9_]+/) {
          beginning = whole.1
          names.append(String(code.2))
        } else if !beginning.isEmpty, code.2.hasPrefix("_") {
          names.append("\(beginning)\(code.2)")
        }
      }
      return names
    }
  }

  @Test("every metric that is named is one of the sources'", arguments: pages)
  func metrics(_ page: String) throws {
    // The DHT's extension has such a name as well.
    let known = try Self.literals(/"(grenache_[a-z0-9_]+)"/)
    for name in Self.metricNames(in: try text(page)) {
      #expect(known.contains(name), "\(name) in \(page)")
    }
  }

  @Test("every metric is in the guide to operating")
  func allMetrics() throws {
    let counted = try Self.literals(/(?:label|name):\s*"(grenache_[a-z0-9_]+)"/)
    #expect(counted.count > 20)
    let named = Self.metricNames(in: try text("Sources/Grenache/Grenache.docc/Operating.md"))
    #expect(counted.subtracting(named).sorted() == [])
  }

  @Test("every option that is named is one of the commands, or of those around them")
  func options() async throws {
    var known: Set = [
      "--generate-completion-script",
      // of curl
      "--cacert", "--cert", "--key",
      // of the benchmarks and simulators
      "--cache", "--dead", "--minutes", "--names", "--only", "--plot", "--seed", "--seeds",
      "--settled", "--spread", "--strict", "--up-to",
    ]
    for program in [Programs.grenache, Programs.grape] {
      let help = try await run(program, "--experimental-dump-help").output
      for name in help.matches(of: /"name" : "([A-Za-z0-9_-]+)"/) { known.insert("--\(name.1)") }
    }
    for page in Self.pages {
      for option in try text(page).matches(of: /(?:^|[ `(])(--[a-z][A-Za-z0-9_-]+)/) {
        let isKnown = known.contains(String(option.1))
        #expect(isKnown, "\(option.1) in \(page)")
      }
    }
  }

  @Test("the tutorial's manifest is one, and the example's; what it depends on is this package's")
  func manifest() async throws {
    let shown = try #require(blocks("swift", in: try text(Tutorial.page)).first)
    #expect(try text("Examples/Tutorial/Package.swift") == shown)
    let dumped = try await run(
      "/usr/bin/env", "swift", "package", "--package-path",
      "\(GeneratedCertificates.packageRoot)/Examples/Tutorial", "dump-package")
    #expect(dumped.status == 0, "\(dumped.errors)")
    for name in ["worker", "client", "grenache-swift", "Grenache"] {
      #expect(dumped.output.contains("\"\(name)\""), "\(name)")
    }
    let own = try text("Package.swift")
    #expect(own.contains("name: \"grenache-swift\""))
    #expect(own.contains(".library(name: \"Grenache\""))
  }
}

/// A network of this test's own, so that the tutorial's ports are free, and the processes in it.
private struct Tutorial {
  static let page = "Sources/Grenache/Grenache.docc/Tutorial.md"
  static let unshare = ["/usr/bin/unshare", "-rn", "/bin/sh", "-c"]
  static let loopback = "ip link set lo up"

  /// Whether this system lets somebody have one. Where nothing may be left out, that `ip` is missing is no
  /// reason to.
  static let isPossible: Bool = {
    let process = Process()
    process.executableURL = URL(filePath: unshare[0])
    process.arguments = Array(unshare.dropFirst()) + [Interoperation.isRequired ? "true" : loopback]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }()

  private let folder: TemporaryFolder
  private let keeper: RunningCommand
  private let enter: [String]
  /// What the page has one type, and what it shows, each in one line.
  private var commands: [String]
  private let shown: String

  init() async throws {
    folder = try TemporaryFolder()
    keeper = try RunningCommand(
      Self.unshare[0], Self.unshare.dropFirst() + ["\(Self.loopback) && echo $$ && exec cat"])
    enter = [
      "-t", await keeper.firstLine(), "-U", "-n", "--preserve-credentials", "/usr/bin/env", "-C",
      folder.path,
    ]
    let page = try text(Self.page)
    let prefix = "    swift run "
    commands = page.split(separator: "\n").filter { $0.hasPrefix(prefix) }.map {
      String($0.dropFirst(prefix.count))
    }
    shown = page.split { $0.isWhitespace }.joined(separator: " ")
  }

  /// Starts the page's next command, which has to begin so.
  mutating func start(_ beginning: String) throws -> RunningCommand {
    let command = try #require(commands.first)
    #expect(command.hasPrefix(beginning))
    commands.removeFirst()
    var words = command.split(separator: " ").map(String.init)
    let names = ["worker": "TutorialWorker", "client": "TutorialClient"]
    words[0] = "\(Programs.folder)/\(names[words[0]] ?? words[0])"
    return try RunningCommand("/usr/bin/nsenter", enter + words)
  }

  mutating func run(_ beginning: String) async throws -> Ended {
    let command = try start(beginning)
    command.closeInput()
    return await command.end()
  }

  /// Whether the page shows a text, wherever its lines end.
  func shows(_ text: String) -> Bool {
    shown.contains(text.split { $0.isWhitespace }.joined(separator: " "))
  }

  var isOver: Bool { commands.isEmpty }

  func end() async { _ = await keeper.terminate() }
}

@Suite("The tutorial", .enabled(if: Tutorial.isPossible), .timeLimit(.minutes(2)))
struct TutorialTests {
  @Test("P21 P22 its commands, in its order, do what it says")
  func commands() async throws {
    var tutorial = try await Tutorial()
    #expect(try await tutorial.run("grenache certs --out").status == 0)
    let inspected = try await tutorial.run("grenache tls inspect")
    #expect(inspected.output.contains("grenache:hello"))
    let first = try tutorial.start("grape --dp 20001")
    let second = try tutorial.start("grape --dp 20002")
    for grape in [first, second] { _ = await grape.firstLine() }
    let worker = try tutorial.start("worker")
    #expect(await worker.says("listening"))
    #expect(await first.says("announced"))
    #expect(first.errors.contains("by=grenache:hello port=1337 service=hello storedOn=1"))
    #expect(tutorial.shows("by=grenache:hello port=1337 service=hello storedOn=1"))
    let greeted = try await tutorial.run("client Ada Grace")
    #expect(greeted.output.hasPrefix("Hello Ada") && tutorial.shows(greeted.output))
    let called = try await tutorial.run("grenache call hello Ada -v")
    #expect(called.output.hasPrefix("Hello Ada") && called.errors.contains("tls: TLSv1.3"))
    #expect(try await tutorial.run("grenache certs renew tls/worker").status == 0)
    #expect(await worker.says("certificates loaded", times: 2))
    #expect(try await tutorial.run("grenache certs revoke").status == 0)
    #expect(await second.says("certificates loaded"))
    let refused = try await tutorial.run("client Ada")
    let reason = try #require(refused.output.components(separatedBy: " See the peer's log").first)
    #expect(reason.contains("alert 44") && tutorial.shows(reason), "\(refused.output)")
    #expect(await second.says("the peer's certificate is revoked"))
    #expect(try await tutorial.run("grenache certs renew tls/client").status == 0)
    #expect(try await tutorial.run("client Ada").output.hasPrefix("Hello Ada"))
    #expect(try await tutorial.run("grenache certs issue").status == 0)
    let impostor = try tutorial.start("grenache serve hello --port 1338")
    _ = await impostor.firstLine()
    let doubted = try await tutorial.run("grenache call hello Ada --to")
    #expect(doubted.status == 77 && doubted.output.isEmpty)
    let start = try #require(doubted.errors.components(separatedBy: " presented URI").first)
    #expect(tutorial.shows(start), "\(doubted.errors)")
    #expect(tutorial.isOver)
    #expect(await worker.terminate() == 0)
    #expect(await first.says("withdrawn"))
    for command in [impostor, second, first] { #expect(await command.terminate() == 0) }
    await tutorial.end()
  }
}
