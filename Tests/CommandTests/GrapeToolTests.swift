import Foundation
import TestSupport
import Testing

@Suite("announce and lookup for users of the existing tools", .timeLimit(.minutes(2)))
struct GrapeToolTests {
  private func grape() async throws -> (RunningGrape, [String]) {
    let grape = try await RunningGrape(isPlain: true)
    return (grape, ["-g", "127.0.0.1", "-p", port(of: grape.api), "--insecure-plaintext"])
  }

  @Test("a line is announced when it comes; one that is none is told and passed over")
  func streaming() async throws {
    let (grape, options) = try await grape()
    let announce = try RunningCommand(Programs.grenache, ["announce", "-d", "/"] + options)
    announce.write("; nothing\na/1 # the first\n")
    #expect(await announce.firstLine() == "a/1 stored on 0")
    announce.write("no port\n\nb/0\n")
    announce.write("b / 2;the second\nc/d/3")
    announce.closeInput()
    let ended = await announce.end()
    #expect(ended.output == "b/2 stored on 0\nc/d/3 stored on 0", "\(ended.errors)")
    #expect(ended.status == 0)
    #expect(ended.errors.contains("no port is not service/port."))
    #expect(ended.errors.contains("b/0 is not service/port."))
    _ = await grape.terminate()
  }

  @Test("JSON lines: arrays, objects with data, ports as text; # within a string is no comment")
  func json() async throws {
    let (grape, options) = try await grape()
    let announce = try RunningCommand(Programs.grenache, ["announce", "--json"] + options)
    announce.write(#"{"data":["a#1;",1],"rid":"x"} # comment"# + "\n")
    announce.write(#"["b","2"]"# + "\n" + #"["c",65536]"# + "\n")
    announce.write(##"["\"#",3] ; "comment""## + "\n")
    announce.closeInput()
    let ended = await announce.end()
    #expect(
      ended.output == #"""
        {"port":1,"service":"a#1;","stored":0}
        {"port":2,"service":"b","stored":0}
        {"port":3,"service":"\"#","stored":0}
        """#, "\(ended.errors)")
    #expect(ended.status == 0 && ended.errors.contains("65536"))
    _ = await grape.terminate()
  }

  @Test(
    "several grapes: the next one is asked when one is dead; exit codes when nothing was announced")
  func failover() async throws {
    let (grape, options) = try await grape()
    let announced = try await run(
      Programs.grenache, ["announce", "a,1", "-g", "127.0.0.1:1"] + options)
    #expect(announced.output == "a,1 stored on 0", "\(announced.errors)")
    for (arguments, input, status) in [
      (["-g", "127.0.0.1:1"], "a,1\n", 69), (options, "nonsense\n", 65), (options, "", 65),
      (["a,1", "nonsense"] + options, "", 64), (["-d", "", "a,1"] + options, "", 64),
      (["-p", "0"] + options.suffix(1), "", 64),
    ] as [([String], String, Int32)] {
      let plaintext = arguments.contains("--insecure-plaintext") ? [] : ["--insecure-plaintext"]
      let announce = try RunningCommand(Programs.grenache, ["announce"] + arguments + plaintext)
      announce.write(input)
      announce.closeInput()
      let ended = await announce.end()
      #expect(ended.status == status, "\(arguments) \(ended.errors)")
      #expect(ended.output.isEmpty)
    }
    _ = await grape.terminate()
  }

  @Test("lookup: one by chance, all in one line, the first, the last; several services")
  func lookup() async throws {
    let (grape, options) = try await grape()
    let announced = try await run(
      Programs.grenache, ["announce", "a,1", "a,2", "a,3", "b,4"] + options)
    #expect(announced.output.split(separator: "\n").count == 4, "\(announced.errors)")
    func lookup(_ arguments: String...) async throws -> Ended {
      try await run(Programs.grenache, ["lookup"] + arguments + options)
    }
    let workers = Set((1...3).map { "127.0.0.1:\($0)" })
    #expect(workers.contains(try await lookup("a").output))
    let all = try await lookup("--all", "a", "b")
    let lines = all.output.split(separator: "\n")
    #expect(lines.count == 2 && lines.last == "127.0.0.1:4", "\(all.output)")
    #expect(Set(lines[0].split(separator: " ").map(String.init)) == workers)
    let ends = try await lookup("-afl", "a").output.split(separator: "\n")
    #expect(ends.count == 3)
    #expect(ends[0].hasPrefix(ends[1]) && ends[0].hasSuffix(ends[2]))
    let some = try await lookup("-f", "nobody", "b")
    #expect(some.status == 0 && some.output == "127.0.0.1:4")
    #expect(some.errors.contains("nobody announces nobody."))
    let none = try await lookup("nobody", "--json")
    #expect(none.status == 69 && none.output.isEmpty)
    _ = await grape.terminate()
  }
}

@Suite("What commands show, and to whom", .timeLimit(.minutes(2)))
struct TerminalTests {
  private static let script = "/usr/bin/script"

  @Test(
    "progress is for a terminal, and never beside JSON",
    .enabled(if: FileManager.default.isExecutableFile(atPath: script)))
  func progress() async throws {
    let lookup = "'\(Programs.grenache)' lookup x --insecure-plaintext -g 127.0.0.1:1"
    let onTerminal = try await run(Self.script, "-qec", "TERM=xterm \(lookup)", "/dev/null")
    #expect(onTerminal.output.contains("\u{1b}[Klooking up x"), "\(onTerminal.output)")
    for command in ["TERM=xterm \(lookup) --json", "TERM=dumb \(lookup)"] {
      let ended = try await run(Self.script, "-qec", command, "/dev/null")
      #expect(ended.output.contains("127.0.0.1:1") && !ended.output.contains("\u{1b}"))
    }
    let piped = try await run("/bin/sh", "-c", "TERM=xterm \(lookup)")
    #expect(piped.errors.contains("127.0.0.1:1") && !piped.errors.contains("\u{1b}"))
  }

  @Test(
    "completions: files, folders and choices, in every shell and for both programs",
    arguments: [
      ("bash", ["__", "-d"]), ("zsh", ["_files -/", "_files"]),
      ("fish", ["complete -c", "__fish_complete_directories"]),
    ] as [(String, [String])])
  func completions(_ shell: String, _ fragments: [String]) async throws {
    for (program, choices) in [
      (Programs.grenache, ["dropOldest", "wss", "keygen", "key-file"]),
      (Programs.grape, ["state-dir", "critical"]),
    ] {
      let made = try await run(program, "--generate-completion-script", shell)
      #expect(made.status == 0 && made.errors.isEmpty, "\(made.errors)")
      for text in fragments + choices { #expect(made.output.contains(text), "\(shell): \(text)") }
      guard shell == "bash" else { continue }
      let bash = try RunningCommand("/bin/bash", ["-n"])
      bash.write(made.output)
      bash.closeInput()
      let checked = await bash.end()
      #expect(checked.status == 0, "\(checked.errors)")
    }
  }

  @Test("bench: what was measured until it was interrupted is told")
  func interruptedBench() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "a", "--port", "0", "--json", "--echo", "--no-announce", "--insecure-plaintext",
        "--verbose",
      ])
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    let bench = try RunningCommand(
      Programs.grenache,
      [
        "bench", "a", "--to", address, "--insecure-plaintext", "--seconds", "1000", "--json",
        "--rate", "100",
      ])
    // Of the first call alone it does not follow that it measures already.
    #expect(await worker.says("by=", times: 20))
    kill(bench.processIdentifier, SIGINT)
    let ended = await bench.end()
    #expect(ended.status == 0, "\(ended.errors)")
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: Any])
    #expect((object["calls"] as? Int).map { $0 > 0 && $0 < 10_000 } == true)
    _ = await worker.terminate()
  }

  @Test("bench: closed and open loop, the histogram drawn and as JSON")
  func bench() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "a", "--port", "0", "--json", "--echo", "--no-announce", "--insecure-plaintext"])
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    func bench(_ arguments: String...) async throws -> Ended {
      try await run(
        Programs.grenache, ["bench", "a", "--to", address, "--insecure-plaintext"] + arguments)
    }
    let drawn = try await bench("--seconds", "0.2", "--in-flight", "2")
    #expect(drawn.status == 0 && drawn.output.contains(" ##"), "\(drawn.errors)")
    #expect(drawn.output.contains("p99.9"))
    for (arguments, loop) in [
      (["--in-flight", "3"], "closed"), (["--in-flight", "3", "--rate", "100"], "open"),
    ] {
      let ended = try await run(
        Programs.grenache,
        ["bench", "a", "--to", address, "--insecure-plaintext", "--seconds", "0.5", "--json"]
          + arguments)
      let object = try #require(
        try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: Any])
      #expect(object["loop"] as? String == loop)
      let calls = try #require(object["calls"] as? Int)
      let histogram = try #require(object["histogram"] as? [[String: Double]])
      #expect(calls > 0 && histogram.reduce(0) { $0 + ($1["calls"] ?? 0) } == Double(calls))
      if loop == "open" { #expect(calls + (object["notMade"] as? Int ?? 0) == 50) }
    }
    for option in ["--rate=0", "--rate=inf", "--rate=1e20", "--rate=1e-30", "--in-flight=0"] {
      let wrong = try await bench(option)
      #expect(wrong.status == 64, "\(option)")
    }
    _ = await worker.terminate()
  }
}
