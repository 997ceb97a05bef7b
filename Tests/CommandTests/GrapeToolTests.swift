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

  @Test("a # or ; that stands between service and port begins no comment", arguments: ["#", ";"])
  func delimiters(_ delimiter: String) async throws {
    let (grape, options) = try await grape()
    let announce = try RunningCommand(Programs.grenache, ["announce", "-d", delimiter] + options)
    announce.write("a\(delimiter)1\nb\(delimiter)2 \(delimiter == "#" ? ";" : "#") the second\n")
    announce.closeInput()
    let ended = await announce.end()
    #expect(
      ended.output == "a\(delimiter)1 stored on 0\nb\(delimiter)2 stored on 0", "\(ended.errors)")
    _ = await grape.terminate()
  }

  @Test("a line that is too long is passed over; what moves cursors is not printed as it came")
  func hostileLines() async throws {
    let (grape, options) = try await grape()
    let announce = try RunningCommand(Programs.grenache, ["announce"] + options)
    announce.write(String(repeating: "x", count: 300 << 10) + "\na,1\n\u{1b}[31mred\n")
    announce.closeInput()
    let ended = await announce.end()
    #expect(ended.status == 0 && ended.output == "a,1 stored on 0", "\(ended.errors)")
    #expect(ended.errors.contains("line 1 of the input has more than"))
    #expect(ended.errors.contains(#"\u{1b}[31mred is not service,port."#), "\(ended.errors)")
    _ = await grape.terminate()
  }

  @Test("announce --keep: again and again, and withdrawn at the end; once is kept by the grape")
  func keep() async throws {
    let grape = try await RunningGrape(isPlain: true)
    /// How many announcements the grape has been asked for.
    func announced() async throws -> Int {
      let name = "grenache_grape_announces_total "
      let metrics = try await run(Programs.curl, "-s", "http://\(grape.api)/metrics").output
      let line = metrics.split(separator: "\n").first { $0.hasPrefix(name) }
      return line.flatMap { Int($0.dropFirst(name.count)) } ?? 0
    }
    let keep = try RunningCommand(
      Programs.grenache, ["announce", "a,1", "--keep"] + (try grape.options()))
    #expect(await keep.firstLine() == "a,1 stored on 0")
    while try await announced() < 4 {}
    let lines = try RunningCommand(
      Programs.grenache, ["announce", "--keep", "--json"] + (try grape.options()))
    lines.write("[\"b\",2]\n")
    #expect(await lines.firstLine().contains("\"service\":\"b\""))
    #expect(try await grape.grenache("lookup", "a", "b").output == "127.0.0.1:1\n127.0.0.1:2")
    #expect(await keep.terminate() == 0)
    // Its input is still open.
    kill(lines.processIdentifier, SIGINT)
    #expect(await lines.end().status == 0)
    #expect(try await grape.grenache("lookup", "a", "b").status == 69)
    _ = try await grape.grenache("announce", "a,1")
    #expect(try await grape.grenache("lookup", "a").status == 0)
    _ = await grape.terminate()
  }

  @Test("announce --keep: tried again where no grape answers, given up where it is not permitted")
  func keepTrying() async throws {
    let grape = try await RunningGrape(isPlain: true)
    kill(grape.command.processIdentifier, SIGSTOP)
    let keep = try RunningCommand(
      Programs.grenache, ["announce", "a,1", "--keep", "--timeout", "1"] + (try grape.options()))
    #expect(await keep.says("error: "))
    kill(grape.command.processIdentifier, SIGCONT)
    try await grape.announced(1, "a")
    #expect(await keep.terminate() == 0)
    _ = await grape.terminate()
    let secure = try await RunningGrape()
    let denied = try await secure.grenache("announce", "rpc_test,1", "--keep")
    #expect(denied.status == 77, "\(denied.errors)")
    _ = await secure.terminate()
  }

  @Test("lookup and get: what cannot be had is told, and the rest is had")
  func oneOfSeveral() async throws {
    let folder = try TemporaryFolder()
    let policy = "\(folder.path)/policy.yaml"
    try "rules:\n  - {allow: [announce, lookup], keys: [rpc_test], to: anyone}\n".write(
      toFile: policy, atomically: true, encoding: .utf8)
    let grape = try await RunningGrape(options: ["--access-policy", policy])
    #expect(try await grape.grenache("announce", "rpc_test,1").status == 0)
    for services in [["secret", "rpc_test"], ["rpc_test", "secret"]] {
      let found = try await grape.grenache("lookup", services[0], services[1])
      #expect(found.status == 0 && found.output == "127.0.0.1:1", "\(found.errors)")
      #expect(found.errors.contains("ERR_GRAPE_NOT_PERMITTED"), "\(found.errors)")
    }
    #expect(try await grape.grenache("lookup", "secret").status == 77)
    _ = await grape.terminate()
    let open = try await RunningGrape(isPlain: true)
    let put = try await open.grenache("put", "hello")
    #expect(put.status == 0, "\(put.errors)")
    let missing = String(repeating: "0", count: 40)
    for targets in [[missing, put.output], [put.output, missing]] {
      let got = try await open.grenache("get", targets[0], targets[1])
      #expect(got.status == 69 && got.output == "hello", "\(got.errors)")
      #expect(got.errors.contains("nobody has \(missing)"), "\(got.errors)")
    }
    _ = await open.terminate()
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

  @Test("bench --rate: at the interruption nobody waits for calls that are due later")
  func interruptedAtLowRate() async throws {
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
        "--rate", "2",
      ])
    #expect(await worker.says("by=", times: 4))
    let interrupted = ContinuousClock.now
    kill(bench.processIdentifier, SIGINT)
    let ended = await bench.end()
    // The callers beside the one that is due wait for up to half a minute.
    #expect(ContinuousClock.now - interrupted < .seconds(15))
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: Any])
    let (seconds, calls) = (object["seconds"] as? Double ?? 0, object["calls"] as? Int ?? 0)
    #expect(ended.status == 0 && calls >= 3 && seconds >= 1 && seconds < 15, "\(ended.output)")
    let rate = object["callsPerSecond"] as? Double ?? 0
    #expect(abs(rate - Double(calls) / seconds) < 0.001, "\(ended.output)")
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
